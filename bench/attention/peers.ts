import { OnnxGraph } from '../onnx.ts';
import { type PeerName, runtime } from '../peers.ts';
import { HEADS } from './cases.ts';

export interface AttentionPeer {
  readonly name: PeerName;
  run(): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** Dense attention as an exporter writes it, or as onnxruntime's own fused operator. */
export const ATTENTION_GRAPHS = ['plain', 'fused'] as const;
export type AttentionGraph = (typeof ATTENTION_GRAPHS)[number];

function graphOf(kind: AttentionGraph, n: number, headSize: number): Uint8Array {
  const graph = new OnnxGraph();
  const width = HEADS * headSize;
  if (kind === 'fused') {
    const [q, k, v] = ['q', 'k', 'v'].map((name) => graph.input(name, 'float32', [1, n, width]));
    const o = graph.contrib('MultiHeadAttention', [q, k, v], { num_heads: HEADS });
    graph.output('o', o, 'float32', [1, n, width]);
    return graph.bytes();
  }
  const [q, k, v] = ['q', 'k', 'v'].map((name) => graph.input(name, 'float32', [1, HEADS, n, headSize]));
  const scaled = graph.op('Mul', [q, graph.scalar(1 / Math.sqrt(headSize))]);
  const keys = graph.op('Transpose', [k], { perm: [0, 1, 3, 2] });
  const weights = graph.op('Softmax', [graph.op('MatMul', [scaled, keys])], { axis: -1 });
  const heads = graph.op('Transpose', [graph.op('MatMul', [weights, v])], { perm: [0, 2, 1, 3] });
  graph.output('o', graph.op('Reshape', [heads, graph.integers(1, n, width)]), 'float32', [1, n, width]);
  return graph.bytes();
}

/** Opens dense attention on a peer, with the inputs that every mechanism gets (`[3H, n, D]`, D a multiple of 8). */
export async function openAttention(
  name: PeerName,
  kind: AttentionGraph,
  qkv: Float32Array,
  n: number,
  headSize: number,
): Promise<AttentionPeer> {
  const ort = await runtime(name);
  const session = await ort.InferenceSession.create(graphOf(kind, n, headSize), {
    executionProviders: [name === 'onnxruntime-web' ? 'wasm' : 'cpu'],
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
  });
  const size = HEADS * n * headSize;
  const parts = [0, 1, 2].map((part) => qkv.slice(part * size, (part + 1) * size));
  const shape = kind === 'fused' ? [1, n, HEADS * headSize] : [1, HEADS, n, headSize];
  const data = kind === 'fused' ? parts.map((part) => byToken(part, n, headSize)) : parts;
  const feeds = Object.fromEntries(
    ['q', 'k', 'v'].map((input, i) => [input, new ort.Tensor('float32', data[i], shape)]),
  );
  return {
    name,
    run: async () => (await session.run(feeds)).o.data,
    dispose: () => session.release(),
  };
}

/** `[H, n, D]` → `[n, H·D]` */
function byToken(x: Float32Array, n: number, D: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let h = 0; h < HEADS; h++)
    for (let i = 0; i < n; i++)
      out.set(x.subarray((h * n + i) * D, (h * n + i + 1) * D), (i * HEADS + h) * D);
  return out;
}
