import { readFile } from 'node:fs/promises';
import type { LoadOptions } from '../src/runtime/types.ts';
import type { GraphKind } from './bert-onnx.ts';
import { type MemoryWatch, watchMemory } from './memory.ts';
import { median } from './outputs.ts';
import type { PeerName } from './peers.ts';
import type { ChildResult, ChildTask } from './spawn.ts';

/**
 * One measurement in a process of its own: what a start costs, or what an engine flag changes, can only be
 * measured once per process. The task arrives as an argument; the result leaves as one line of JSON.
 */
interface Engine {
  embed(): Promise<Float32Array>;
  plannedBytes: number | null;
  dispose?(): void;
}

async function ours(
  file: string,
  ids: readonly number[],
  options: LoadOptions,
): Promise<() => Promise<Engine>> {
  const { load } = await import('../src/runtime/index.ts');
  return async () => {
    const model = await load(file, options);
    return {
      embed: async () => (await model.run([ids]))[0],
      dispose: () => model.dispose(),
      plannedBytes: (await model.plan(ids.length, 1))[0].arenaBytes,
    };
  };
}

async function theirs(
  name: PeerName,
  file: string,
  kind: GraphKind,
  width: number,
  ids: readonly number[],
): Promise<() => Promise<Engine>> {
  const { openPeer } = await import('./peers.ts');
  await import(name);
  return async () => {
    const peer = await openPeer(name, await readFile(file), kind, width);
    return { embed: () => peer.embed(ids), plannedBytes: null };
  };
}

async function measure(task: ChildTask): Promise<ChildResult> {
  const watch: MemoryWatch | null = task.watchMemory ? watchMemory({ collect: task.heldOnly }) : null;
  const { ids } = task;
  const open =
    task.engine === 'attenuate'
      ? await ours(task.file, ids, task.options ?? {})
      : await theirs(task.engine, task.file, task.kind!, task.width!, ids);
  if (task.heldOnly) {
    const first = await open();
    await first.embed();
    first.dispose?.();
    // What was disposed of goes with the turn of the event loop that follows.
    await new Promise((next) => setTimeout(next, 50));
  }
  watch?.baseline();
  const start = performance.now();
  const engine = await open();
  watch?.sample();
  const output = await engine.embed();
  const firstMs = performance.now() - start;
  const peakBytes = watch?.peakGrowth() ?? null;
  watch?.stop();
  const times: number[] = [];
  const until = performance.now() + (task.warmRunMs ?? 0);
  const warm = performance.now() + (task.warmRunMs ?? 0) / 3;
  while (performance.now() < until) {
    const from = performance.now();
    await engine.embed();
    if (from > warm) times.push(performance.now() - from);
  }
  return {
    firstMs,
    peakBytes,
    plannedBytes: engine.plannedBytes,
    runMs: times.length ? median(times) : null,
    output: Array.from(output),
  };
}

const reply = await measure(JSON.parse(process.argv[2])).catch((error: unknown) => ({
  error: error instanceof Error ? error.message : String(error),
}));
process.stdout.write(`\n${JSON.stringify(reply)}\n`, () => process.exit(0));
