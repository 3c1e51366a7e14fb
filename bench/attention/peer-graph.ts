import { OnnxGraph } from '../onnx.ts';
import { type PeerName, runtime } from '../peers.ts';
import { HEADS, stackedInput } from './inputs.ts';

/** Dense attention as an exporter writes it, or as onnxruntime's own fused operator. */
export const ATTENTION_GRAPHS = ['plain', 'fused'] as const;
export type AttentionGraph = (typeof ATTENTION_GRAPHS)[number];

export interface OpenGraph {
  /** Attention, with queries, keys and values handed over and the output handed back. */
  run(): Promise<Float32Array>;
}

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

/**
 * Dense attention on a peer, with the inputs that every mechanism gets (D a multiple of 8).
 * @param ready called when the inputs are there and nothing of the peer's is
 */
export async function openGraph(
  name: PeerName,
  kind: AttentionGraph,
  n: number,
  headSize: number,
  ready: () => void,
): Promise<OpenGraph> {
  const ort = await runtime(name);
  const qkv = stackedInput(headSize, n);
  const size = HEADS * n * headSize;
  const parts = [0, 1, 2].map((part) => qkv.subarray(part * size, (part + 1) * size));
  const data = kind === 'fused' ? parts.map((part) => byToken(part, n, headSize)) : parts;
  ready();
  const session = await ort.InferenceSession.create(graphOf(kind, n, headSize), {
    executionProviders: [name === 'onnxruntime-web' ? 'wasm' : 'cpu'],
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
  });
  const shape = kind === 'fused' ? [1, n, HEADS * headSize] : [1, HEADS, n, headSize];
  const feeds = Object.fromEntries(
    ['q', 'k', 'v'].map((input, i) => [input, new ort.Tensor('float32', data[i], shape)]),
  );
  return { run: async () => (await session.run(feeds)).o.data };
}

/** `[H, n, D]` → `[n, H·D]` */
function byToken(x: Float32Array, n: number, D: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let h = 0; h < HEADS; h++)
    for (let i = 0; i < n; i++)
      out.set(x.subarray((h * n + i) * D, (h * n + i + 1) * D), (i * HEADS + h) * D);
  return out;
}
