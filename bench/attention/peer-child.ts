import { watchMemory } from '../memory.ts';
import type { PeerName } from '../peers.ts';
import { HEADS } from './inputs.ts';
import { pickRows } from './oracle.ts';
import { type AttentionGraph, type OpenGraph, openGraph } from './peer-graph.ts';

/** A peer in a process of its own: what it holds can be told, and nothing else ends when it does. */
export type Request =
  | { open: { name: PeerName; kind: AttentionGraph; n: number; headSize: number } }
  | { time: number }
  | { rows: readonly number[] };
export type Reply = { peakBytes: number } | { ms: number } | { values: number[] } | { error: string };

const watch = watchMemory();
let graph: OpenGraph | null = null;
let width = 0;
let output: Float32Array;

async function open({
  name,
  kind,
  n,
  headSize,
}: Extract<Request, { open: unknown }>['open']): Promise<Reply> {
  let resident = 0;
  width = HEADS * headSize;
  graph = await openGraph(name, kind, n, headSize, () => {
    watch.baseline();
    resident = process.memoryUsage.rss();
  });
  output = await graph.run();
  // Native memory is no part of what JavaScript knows of.
  const native = Math.max(0, process.resourceUsage().maxRSS * 1024 - resident);
  const peakBytes = name === 'onnxruntime-node' ? native : watch.peakGrowth();
  watch.stop();
  return { peakBytes };
}

async function time(repeats: number): Promise<Reply> {
  const start = performance.now();
  for (let i = 0; i < repeats; i++) output = await graph!.run();
  return { ms: (performance.now() - start) / repeats };
}

async function answer(request: Request): Promise<Reply> {
  if ('open' in request) return open(request.open);
  if ('time' in request) return time(request.time);
  return { values: Array.from(pickRows(output, width, request.rows)) };
}

process.on('message', (request: Request) => {
  answer(request)
    .catch((error: unknown): Reply => ({ error: error instanceof Error ? error.message : String(error) }))
    .then((reply) => process.send!(reply));
});
