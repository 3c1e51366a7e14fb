import { runReference } from '../../src/backend/reference/interpreter.ts';
import { WasmEngine } from '../../src/backend/wasm/engine.ts';
import type { AttentionNode } from '../../src/program/ops/attention.ts';
import { padHead } from '../../src/program/ops/linear.ts';
import { OPS } from '../../src/program/ops/registry.ts';
import { type Configuration, configure } from '../../src/runtime/configure.ts';
import { nodePlatform } from '../../src/runtime/node/platform.ts';
import { spinLoop } from '../ceiling.ts';
import { describe, PEERS } from '../peers.ts';
import { failedRow, type Row } from '../report.ts';
import type { Subjects } from '../subjects.ts';
import { type InterleaveOptions, interleave } from '../timing.ts';
import { type AttentionCase, attentionCase, HEADS, stackedInput, variants } from './cases.ts';
import { denseRows, pickRows, relativeL1, sampledRows } from './oracle.ts';
import { ATTENTION_GRAPHS, type AttentionPeer, openAttention } from './peers.ts';

export const LENGTHS = [128, 512, 2048, 4096, 8192, 16384] as const;
export const HEAD_SIZES = [32, 64] as const;
/** Beyond it only dense attention and what grows slower than n² is timed. */
const LONGEST_QUADRATIC = 4096;
/** What took longer at half the length is left out, beside dense attention. */
const SLOW_MS = 1000;
const WEB = 'onnxruntime-web';
const EXACT = 1e-5;

const timingFor = (n: number): InterleaveOptions => {
  if (n <= 512) return { blocks: 10, blockMs: 12, rounds: 2 };
  if (n <= 4096) return { blocks: 3, blockMs: 10, rounds: 1, warmCalls: 1 };
  return { blocks: 2, blockMs: 1, rounds: 1, warmCalls: 1 };
};

export interface Timed {
  readonly case: AttentionCase;
  readonly n: number;
  readonly row: Row;
}

interface Open {
  readonly case: AttentionCase;
  readonly engine: WasmEngine;
  run(): Promise<Float32Array>;
}

async function openCase(made: AttentionCase, n: number, { features, tiles }: Configuration): Promise<Open> {
  const engine = await WasmEngine.create(made.program, made.weights, { features, tiles, threads: 1 });
  const loader = engine.loader(made.weights);
  for (const [name, { bytes }] of made.weights) loader.accept(name, 0, bytes);
  loader.finish();
  return { case: made, engine, run: async () => (await engine.run({ B: 1, N: n }, made.inputs))[0] };
}

const isQuadratic = ({ mechanism }: { mechanism: AttentionCase['mechanism'] }): boolean =>
  /n²/.test(mechanism.growth.time);

/** The fastest graph of each peer that runs, and why the others do not. */
async function openPeers(qkv: Float32Array, n: number, headSize: number) {
  const open: AttentionPeer[] = [];
  const reasons: string[] = [];
  for (const name of PEERS) {
    const candidates: { peer: AttentionPeer; ms: number }[] = [];
    for (const kind of ATTENTION_GRAPHS)
      try {
        const peer = await openAttention(name, kind, qkv, n, headSize);
        await peer.run();
        const start = performance.now();
        await peer.run();
        candidates.push({ peer, ms: performance.now() - start });
      } catch (error) {
        reasons.push(`${name} ${kind}: ${describe(error)}`);
      }
    candidates.sort((a, b) => a.ms - b.ms);
    if (candidates.length > 0) open.push(candidates[0].peer);
    for (const { peer } of candidates.slice(1)) await peer.dispose();
  }
  return { open, reasons };
}

/** How far an output may be from what it stands for, and how far it is. */
function verdict(made: AttentionCase, n: number, qkv: Float32Array, output: Float32Array, levels: 128 | 256) {
  const width = HEADS * made.headSize;
  const rows = sampledRows(n);
  const got = pickRows(output, width, rows);
  const error = relativeL1(got, denseRows(qkv, n, made.headSize, rows));
  const only = made.program.nodes.length === 1 ? made.program.nodes[0] : null;
  const attributes = only?.kind === 'attention' ? (only as AttentionNode).attributes : null;
  // Weights in the place of queries or keys: the oracle knows none.
  if (attributes?.keyHeads === HEADS && 'input' in attributes.queries && 'input' in attributes.keys) {
    const { mask } = attributes;
    const apart = relativeL1(got, denseRows(qkv, n, made.headSize, rows, mask));
    return { error, agrees: apart <= EXACT, tolerance: `relative L1 ≤ ${EXACT} of masked float64` };
  }
  if (n > 128) return { error, agrees: null, tolerance: null };
  const [want] = runReference(made.program, made.weights, made.inputs, { B: 1, N: n }, levels);
  const budget = Math.max(
    EXACT,
    ...made.program.nodes.map(({ kind }) => {
      const { absolute, relative } = OPS.get(kind)!.budget;
      return absolute + relative;
    }),
  );
  return {
    error,
    agrees: relativeL1(output, want) <= budget,
    tolerance: `relative L1 ≤ ${budget} of the float64 reference`,
  };
}

/** Every mechanism and every peer at one head size and length, in turn. */
async function setting(
  headSize: number,
  n: number,
  configuration: Configuration,
  slow: ReadonlySet<string>,
): Promise<Timed[]> {
  const qkv = stackedInput(headSize, n);
  const levels = configuration.features.dot === 'u7' ? 128 : 256;
  const out: Timed[] = [];
  const open: Open[] = [];
  for (const variant of variants()) {
    const quadratic = variant.name !== 'dense' && isQuadratic(variant);
    if (quadratic && (n > LONGEST_QUADRATIC || slow.has(variant.name))) continue;
    const made = attentionCase(variant, headSize, n, qkv);
    const id = `${made.id}-n${n}`;
    try {
      if (made.refusal) throw new Error(made.refusal);
      open.push(await openCase(made, n, configuration));
    } catch (error) {
      out.push({ case: made, n, row: failedRow(id, error) });
    }
  }
  const peers = await openPeers(qkv, n, headSize);
  const spin = spinLoop(configuration.features.fused ? 'f32Fused' : 'f32MulAdd')!;
  const dense = open.findIndex(({ case: made }) => made.id === `dense-d${headSize}`);
  const contenders = [
    open[dense].run,
    ...open.map(({ run }) => run),
    ...peers.open.map(({ run }) => run),
    spin.run,
  ];
  const { mediansMs, ratios } = await interleave(contenders, timingFor(n));
  for (const [i, { case: made, engine, run }] of open.entries()) {
    const [ms, againstDense] = [mediansMs[i + 1], ratios[i + 1]];
    const { error, agrees, tolerance } = verdict(made, n, qkv, await run(), levels);
    const plan = engine.plan({ B: 1, N: n });
    const against = Object.fromEntries(
      peers.open.map((peer, p) => [peer.name, mediansMs[1 + open.length + p]]),
    );
    const web = peers.open.findIndex(({ name }) => name === WEB);
    const operations = 4 * HEADS * n * n * headSize;
    const spinMs = mediansMs.at(-1)!;
    const share = made.id === `dense-d${headSize}` ? operations / ms / (spin.operations / spinMs) : null;
    const details = {
      relativeL1: error,
      peakBytes: plan.end,
      scratchBytes: plan.scratchBytes,
      timesDense: 1 / againstDense,
      shareOfCeiling: share,
    };
    out.push({
      case: made,
      n,
      row: {
        id: `${made.id}-n${n}`,
        metric: `attention alone, ${HEADS} heads of ${headSize}, one thread; peers: dense`,
        unit: 'ms',
        better: 'lower',
        ours: ms,
        peers: { [WEB]: null, ...against },
        ratio: web < 0 ? null : ratios[1 + open.length + web] / againstDense,
        agrees,
        tolerance,
        details,
        note: web < 0 && made.id.startsWith('dense-d') ? peers.reasons.join('; ') : undefined,
      },
    });
    engine.dispose();
  }
  for (const peer of peers.open) await peer.dispose();
  return out;
}

/** All settings, short lengths first. */
export async function timeMechanisms(subjects: Subjects): Promise<Timed[]> {
  const { config } = await subjects.model('float32');
  const configuration = await configure(config, { threads: 1 }, nodePlatform);
  const out: Timed[] = [];
  for (const headSize of HEAD_SIZES)
    for (const n of LENGTHS) {
      process.stderr.write(`  heads of ${padHead(headSize)}, n=${n} …\n`);
      const slow = out.filter(
        (timed) => timed.case.headSize === headSize && timed.n * 2 <= n && (timed.row.ours ?? 0) > SLOW_MS,
      );
      const names = new Set(slow.map((timed) => timed.case.id.replace(/-d\d+$/, '')));
      out.push(...(await setting(headSize, n, configuration, names)));
    }
  return out;
}
