import { runReference } from '../../src/backend/reference/interpreter.ts';
import { WasmEngine } from '../../src/backend/wasm/engine.ts';
import { buildBlockMask } from '../../src/program/mask/block-mask.ts';
import type { AttentionNode } from '../../src/program/ops/attention.ts';
import { OPS } from '../../src/program/ops/registry.ts';
import type { Program } from '../../src/program/program.ts';
import type { Configuration } from '../../src/runtime/configure.ts';
import { spinLoop } from '../ceiling.ts';
import { PEERS, type PeerName } from '../peers.ts';
import { type Contender, type InterleaveOptions, interleave } from '../timing.ts';
import { type AttentionCase, attentionCase, variants } from './cases.ts';
import { HEADS, stackedInput } from './inputs.ts';
import { denseRows, pickRows, relativeL1, sampledRows } from './oracle.ts';
import { openFastest } from './peer-process.ts';
import type { Figure } from './store.ts';

export interface Setting {
  readonly headSize: number;
  readonly n: number;
}
export const idOf = ({ headSize, n }: Setting): string => `d${headSize}-n${n}`;

const EXACT = 1e-5;
/** What one batch of contenders may hold and take. */
const BATCH_BYTES = 3e9;
const BATCH_MS = 45_000;

/** Names of all that is timed at a setting, in this order: dense attention and the peers first. */
export const contenderNames = (): string[] => {
  const names = variants().map(({ name }) => name);
  return ['dense', ...PEERS, ...names.filter((name) => name !== 'dense')];
};

export const timingFor = (n: number): InterleaveOptions => {
  if (n <= 512) return { blocks: 12, blockMs: 15, rounds: 2 };
  if (n <= 4096) return { blocks: 3, blockMs: 15, rounds: 2, warmCalls: 1 };
  return { blocks: 2, blockMs: 15, rounds: 1, warmCalls: 1 };
};

/** Calls of one contender that `timingFor` asks for, when one is longer than a block. */
const callsAt = (n: number): number => (n <= 512 ? 30 : n <= 4096 ? 7 : 3);

export interface OpenCase {
  /** The kernels alone, with inputs where they are read and the output left where it is written. */
  compute(): Promise<void>;
  /** Values handed over and handed back. */
  run(): Promise<Float32Array[]>;
  readonly peakBytes: number;
  readonly scratchBytes: number;
  dispose(): void;
}

/** A mechanism ready to run. Its inputs stay in place from one `compute` to the next. */
export async function openCase(
  made: Pick<AttentionCase, 'program' | 'weights' | 'inputs'>,
  n: number,
  { features, tiles }: Pick<Configuration, 'features' | 'tiles'>,
): Promise<OpenCase> {
  const { program, weights, inputs } = made;
  const engine = await WasmEngine.create(program, weights, { features, tiles, threads: 1 });
  const loader = engine.loader(weights);
  for (const [name, { bytes }] of weights) loader.accept(name, 0, bytes);
  loader.finish();
  const bindings = { B: 1, N: n };
  const kept: Program = { ...program, outputs: [...program.outputs, ...program.inputs] };
  const plan = engine.planOf(kept, bindings);
  const exact = engine.plan(bindings);
  const place = () => {
    engine.prepare(plan);
    for (const value of program.inputs) engine.view(plan, value).set(inputs[value.name]);
  };
  let placed = false;
  return {
    compute() {
      if (!placed) place();
      placed = true;
      return engine.compute(plan);
    },
    run() {
      placed = false;
      return engine.run(bindings, inputs);
    },
    peakBytes: exact.end,
    scratchBytes: exact.scratchBytes,
    dispose: () => engine.dispose(),
  };
}

/** Pairs of blocks, over all heads, that a single fused attention computes. */
function keptBlocks({ program }: AttentionCase, n: number): number | null {
  const [node] = program.nodes;
  if (program.nodes.length !== 1 || node.kind !== 'attention') return null;
  const { mask, blocks } = (node as AttentionNode).attributes;
  const size = { heads: HEADS, queries: n, keys: n, queryBlock: blocks.query, keyBlock: blocks.key };
  const { kept, heads } = buildBlockMask(mask, size);
  return (kept * HEADS) / heads;
}

/** Compares outputs at one setting with float64. */
export class Judge {
  readonly rows: readonly number[];
  private readonly n: number;
  private readonly headSize: number;
  private readonly qkv: Float32Array;
  private readonly dense: Float64Array;
  private readonly levels: 128 | 256;

  constructor({ n, headSize }: Setting, qkv: Float32Array, levels: 128 | 256) {
    this.n = n;
    this.headSize = headSize;
    this.qkv = qkv;
    this.levels = levels;
    this.rows = sampledRows(n);
    this.dense = denseRows(qkv, n, headSize, this.rows);
  }

  /** Relative L1 of some rows against dense attention. */
  error(rows: ArrayLike<number>): number {
    return relativeL1(rows, this.dense);
  }

  /** How far an output may be from what it stands for, and whether it is. */
  verdict(made: AttentionCase, output: Float32Array): Pick<Figure, 'relativeL1' | 'agrees' | 'within'> {
    const { n, headSize, qkv, rows } = this;
    const got = pickRows(output, HEADS * headSize, rows);
    const error = this.error(got);
    const only = made.program.nodes.length === 1 ? made.program.nodes[0] : null;
    const attributes = only?.kind === 'attention' ? (only as AttentionNode).attributes : null;
    // Weights in the place of queries or keys: the oracle knows none.
    if (attributes?.keyHeads === HEADS && 'input' in attributes.queries && 'input' in attributes.keys) {
      const { mask } = attributes;
      const want = mask ? denseRows(qkv, n, headSize, rows, mask) : this.dense;
      const within = `${EXACT} of masked float64`;
      return { relativeL1: error, agrees: relativeL1(got, want) <= EXACT, within };
    }
    if (n > 128) return { relativeL1: error, agrees: null, within: null };
    const [want] = runReference(made.program, made.weights, made.inputs, { B: 1, N: n }, this.levels);
    const budget = Math.max(
      EXACT,
      ...made.program.nodes.map(({ kind }) => {
        const { absolute, relative } = OPS.get(kind)!.budget;
        return absolute + relative;
      }),
    );
    const within = `${budget} of the float64 reference`;
    return { relativeL1: error, agrees: relativeL1(output, want) <= budget, within };
  }
}

interface Entrant {
  readonly name: string;
  readonly contender: Contender;
  readonly bytes: number;
  /** All of the figure but its times. */
  finish(): Promise<Omit<Figure, 'name' | 'ms' | 'spins'>>;
  dispose(): void;
}

const failed = (name: string, note: string): Figure => ({
  name,
  ...{ ms: null, spins: null, peakBytes: null, scratchBytes: null },
  ...{ relativeL1: null, agrees: null, within: null, keptBlocks: null, note },
});

async function openPeerEntrant(
  name: PeerName,
  { n, headSize }: Setting,
  judge: Judge,
): Promise<Entrant | Figure> {
  const peer = await openFastest(name, n, headSize);
  if ('reasons' in peer) return failed(name, peer.reasons);
  return {
    name,
    contender: peer.contender,
    bytes: 0,
    dispose: peer.dispose,
    finish: async () => ({
      peakBytes: peer.peakBytes,
      scratchBytes: null,
      relativeL1: peer.failure() ? null : judge.error(await peer.rows(judge.rows)),
      agrees: null,
      within: null,
      keptBlocks: null,
      note: `${peer.kind} graph${peer.failure() ? `: ${peer.failure()}` : ''}`,
    }),
  };
}

async function openEntrant(
  name: string,
  setting: Setting,
  qkv: Float32Array,
  judge: Judge,
  configuration: Configuration,
): Promise<Entrant | Figure> {
  const { n, headSize } = setting;
  const peer = PEERS.find((known) => known === name);
  if (peer) return openPeerEntrant(peer, setting, judge);
  const made = attentionCase(variants().find((variant) => variant.name === name)!, headSize, n, qkv);
  if (made.refusal) return failed(name, made.refusal);
  try {
    const open = await openCase(made, n, configuration);
    const { peakBytes, scratchBytes } = open;
    return {
      name,
      contender: () => open.compute(),
      bytes: 1.2 * peakBytes,
      dispose: open.dispose,
      finish: async () => {
        const [output] = await open.run();
        return {
          peakBytes,
          scratchBytes,
          ...judge.verdict(made, output),
          keptBlocks: keptBlocks(made, n),
          note: null,
        };
      },
    };
  } catch (error) {
    return failed(name, error instanceof Error ? error.message : String(error));
  }
}

/**
 * Times what of `names` fits the time, in batches: each in turn with a loop of multiply-adds, so that batches can be
 * compared. Gives the figures of each batch as soon as they are there.
 * @param expectMs what one call is thought to take, or 0
 */
export async function* measureSetting(
  setting: Setting,
  names: readonly string[],
  expectMs: (name: string) => number,
  configuration: Configuration,
  deadline: number,
): AsyncGenerator<Figure[]> {
  const { n, headSize } = setting;
  const qkv = stackedInput(headSize, n);
  const judge = new Judge(setting, qkv, configuration.features.dot === 'u7' ? 128 : 256);
  const spin = spinLoop(configuration.features.fused ? 'f32Fused' : 'f32MulAdd')!;
  const left = [...names];
  while (left.length > 0 && performance.now() < deadline) {
    const batch: Entrant[] = [];
    const out: Figure[] = [];
    let [bytes, ms] = [0, 0];
    while (left.length > 0 && bytes < BATCH_BYTES && ms < BATCH_MS) {
      const name = left[0];
      const expected = expectMs(name) * callsAt(n);
      // What would not be done in time waits for the next run, unless it is the first.
      if (batch.length > 0 && performance.now() + ms + expected > deadline) break;
      left.shift();
      const entrant = await openEntrant(name, setting, qkv, judge, configuration);
      if ('ms' in entrant) out.push(entrant);
      else {
        batch.push(entrant);
        bytes += entrant.bytes;
        ms += expected;
      }
    }
    const { mediansMs, ratios } = await interleave(
      [spin.run, ...batch.map(({ contender }) => contender)],
      timingFor(n),
    );
    for (const [i, entrant] of batch.entries()) {
      const rest = await entrant.finish();
      const done = Number.isFinite(mediansMs[i + 1]);
      const times = done ? { ms: mediansMs[i + 1], spins: ratios[i + 1] } : { ms: null, spins: null };
      out.push({ name: entrant.name, ...times, ...rest });
      entrant.dispose();
    }
    yield out;
    if (batch.length === 0 && out.length === 0) return;
  }
}
