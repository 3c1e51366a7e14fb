import { stat, writeFile } from 'node:fs/promises';
import { bertGraph } from './bert-onnx.ts';
import { cosine, median } from './outputs.ts';
import { describe, fastestPeer, PEERS, TOLERANCE } from './peers.ts';
import { betterBy, failedRow, type Row } from './report.ts';
import { type ChildResult, type ChildTask, inChild } from './spawn.ts';
import type { Subjects } from './subjects.ts';

const STARTS = 5;
const LENGTH = 16;

interface Starts {
  readonly results: readonly ChildResult[];
  readonly reason: string | null;
}

/** Fresh processes in turn: ours, then each peer's, and again. */
async function startInTurn(tasks: readonly ChildTask[]): Promise<Starts[]> {
  const starts = tasks.map(() => ({ results: [] as ChildResult[], reason: null as string | null }));
  for (let i = 0; i < STARTS; i++)
    for (const [t, task] of tasks.entries()) {
      if (starts[t].reason) continue;
      try {
        starts[t].results.push(await inChild(task));
      } catch (error) {
        if (t === 0) throw error;
        starts[t].reason = describe(error);
      }
    }
  return starts;
}

export async function load(subjects: Subjects): Promise<Row[]> {
  try {
    const ids = await subjects.ids(LENGTH);
    const model = await subjects.model('float32');
    const file = await subjects.artifact('int8');
    const tasks: ChildTask[] = [{ engine: 'attenuate', file, ids, options: { threads: 1 } }];
    const notes: string[] = [];
    for (const name of PEERS) {
      const found = await fastestPeer(name, model, 'int8', ids, null);
      if (!('peer' in found)) {
        notes.push(`${name} unavailable: ${found.unavailable}`);
        continue;
      }
      const { kind } = found.peer;
      await found.peer.dispose();
      const graph = await subjects.file(`${kind}.onnx`, async (path) =>
        writeFile(path, await bertGraph(model, kind, LENGTH)),
      );
      const width = model.config.layers.at(-1)!.outputSize;
      tasks.push({ engine: name, file: graph, ids, kind, width });
      notes.push(`${name} loads its ${kind} graph`);
    }
    // Watching memory costs time, so time and memory are measured in processes of their own.
    const timed = await startInTurn(tasks);
    const watched = await startInTurn(tasks.map((task) => ({ ...task, watchMemory: true })));
    const artifactBytes = (await stat(file)).size;
    return [
      row(
        'load-int8',
        'load() and first embedding in a fresh process',
        'ms',
        tasks,
        timed,
        notes,
        (r) => r.firstMs,
      ),
      row(
        'peak-int8',
        'peak growth of WebAssembly memory, ArrayBuffers and heap over load() and first embedding',
        'bytes',
        tasks,
        watched,
        [...notes, memoryNote(watched[0].results, artifactBytes)],
        (r) => r.peakBytes!,
      ),
    ];
  } catch (error) {
    return [failedRow('load-int8', error), failedRow('peak-int8', error)];
  }
}

function memoryNote(results: readonly ChildResult[], artifactBytes: number): string {
  const planned = artifactBytes + results[0].plannedBytes!;
  const peak = median(results.map((r) => r.peakBytes!));
  return `${(peak / planned).toFixed(2)}× the artifact (${artifactBytes}) plus the planned arena (${results[0].plannedBytes})`;
}

function row(
  id: string,
  metric: string,
  unit: string,
  tasks: readonly ChildTask[],
  starts: readonly Starts[],
  notes: readonly string[],
  figure: (result: ChildResult) => number,
): Row {
  const values = starts.map(({ results }) => (results.length ? median(results.map(figure)) : null));
  const main = tasks.findIndex((task) => task.engine === PEERS[0]);
  const output = starts[main]?.results[0]?.output;
  const reasons = starts.flatMap(({ reason }, t) => (reason ? [`${tasks[t].engine}: ${reason}`] : []));
  return {
    id,
    metric,
    unit,
    better: 'lower',
    ours: values[0],
    peers: Object.fromEntries(
      PEERS.map((name) => [name, values[tasks.findIndex((task) => task.engine === name)] ?? null]),
    ),
    ratio: betterBy('lower', values[0], values[main]),
    agrees: output ? cosine(starts[0].results[0].output, output) >= TOLERANCE.int8 : null,
    tolerance: `cosine ≥ ${TOLERANCE.int8}`,
    note: [`median of ${STARTS} processes`, ...notes, ...reasons].join('; '),
  };
}
