import { describe, expect, it } from 'vitest';
import { runReference } from '../../src/backend/reference/interpreter.ts';
import { WasmEngine } from '../../src/backend/wasm/engine.ts';
import type { Features } from '../../src/backend/wasm/kernels/kernel.ts';
import { probeFeatures } from '../../src/backend/wasm/probe.ts';
import type { LinearAttributes } from '../../src/program/ops/linear.ts';
import { OPS } from '../../src/program/ops/registry.ts';
import { nodePlatform } from '../../src/runtime/node/platform.ts';
import { type BuiltCase, buildCase, CASES, type ConformanceCase } from './cases.ts';
import { compare } from './check.ts';

interface Setting {
  readonly name: string;
  readonly features: Features;
  readonly rows: number;
  readonly threads: number;
  /** Ops that the setting is for; by default all. */
  readonly ops?: readonly string[];
}

const probed = probeFeatures();
const plain = { level: 'simd128', fused: false, dot: 'i16' } as const;
const settings: Setting[] = [
  { name: 'probed', features: { ...probed, panel: 8 }, rows: 4, threads: 1 },
  { name: 'probed, other tiles', features: { ...probed, panel: 8 }, rows: 6, threads: 1 },
  { name: 'probed, two threads', features: { ...probed, panel: 8 }, rows: 4, threads: 2 },
  { name: 'simd128', features: { ...plain, panel: 8 }, rows: 3, threads: 1 },
  {
    name: 'probed, panels of 16 columns',
    features: { ...probed, panel: 16 },
    rows: 4,
    threads: 1,
    ops: ['linear'],
  },
  // What an engine with two instructions for a dot computes, every engine with relaxed ones does.
  ...(probed.level === 'relaxed-simd'
    ? [
        {
          name: 'operands of 7 bits',
          features: { ...probed, dot: 'u7', panel: 8 } as const,
          rows: 5,
          threads: 1,
          ops: ['linear', 'quantizeRows'],
        },
      ]
    : []),
];

async function open(built: BuiltCase, { features, rows, threads }: Setting): Promise<WasmEngine> {
  const options = { features, tiles: { float32: rows, int8: rows }, threads, spawn: nodePlatform.spawn };
  const engine = await WasmEngine.create(built.program, built.weights, options);
  const loader = engine.loader(built.weights);
  // Ragged pieces, as a network gives them.
  for (const [name, { bytes }] of built.weights)
    for (let at = 0; at < bytes.length; at += 37) loader.accept(name, at, bytes.subarray(at, at + 37));
  loader.finish();
  return engine;
}

/** Often enough for the optimising compiler to take over; what threads and few ops add to that is checked in fewer. */
const runsOf = ({ threads, ops }: Setting): number => (threads > 1 || ops ? 3 : 40);

/** Heads fill whole panels, or a model is not run in panels so wide. */
const fitsPanels = ({ program }: BuiltCase, { features }: Setting): boolean =>
  program.nodes.every(
    ({ kind, attributes }) =>
      kind !== 'linear' || ((attributes as LinearAttributes).heads?.padded ?? 0) % features.panel === 0,
  );

/** The index from which on two runs are not the same, or −1; NaN equals NaN. */
const firstDifference = (a: Float32Array, b: Float32Array): number =>
  a.length === b.length ? a.findIndex((x, i) => !Object.is(x, b[i])) : Math.min(a.length, b.length);

async function check(c: ConformanceCase, setting: Setting): Promise<void> {
  const built = buildCase(c);
  if (!fitsPanels(built, setting)) return;
  const levels = setting.features.dot === 'u7' ? 128 : 256;
  const want = runReference(built.program, built.weights, built.inputs, built.bindings, levels);
  const budget = c.budget ?? OPS.get(c.op)!.budget;
  const engine = await open(built, setting);
  try {
    let first: Float32Array[] | undefined;
    for (let run = 0; run < runsOf(setting); run++) {
      const got = await engine.run(built.bindings, built.inputs);
      first ??= got;
      for (const [i, y] of got.entries()) {
        // What equals the first run is as good as it was.
        if (run > 0) {
          expect(firstDifference(y, first[i]), 'a later run equals the first').toBe(-1);
          continue;
        }
        const verdict = compare(budget, y, want[i]);
        expect(verdict.ok, verdict.message).toBe(true);
      }
    }
  } finally {
    engine.dispose();
  }
}

describe.each(settings)('wasm, $name', (setting) => {
  // On signed-operand engines codes are stored with their zero point moved: their products are still checked.
  const cases = CASES.filter(
    (c) => !(c.codes && setting.features.dot === 's8') && (setting.ops?.includes(c.op) ?? true),
  );
  it.each(cases.map((c) => [`${c.op}: ${c.name}`, c] as const))('%s', (_, c) => check(c, setting));
});
