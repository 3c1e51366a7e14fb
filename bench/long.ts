import { writeFile } from 'node:fs/promises';
import { bertGraph, type GraphKind } from './bert-onnx.ts';
import { comparePrecision } from './encoder.ts';
import { cosine } from './outputs.ts';
import { describe, fastestPeer, openPeer, type PeerName, TOLERANCE } from './peers.ts';
import { betterBy, failedRow, type Row } from './report.ts';
import { type ChildTask, inChild } from './spawn.ts';
import { type Subjects, WINDOW } from './subjects.ts';
import { interleave } from './timing.ts';

// One run of a peer takes seconds at these lengths: a block is one call.
const SLOW = { blocks: 3, blockMs: 1, rounds: 1, warmCalls: 1 } as const;
const MEMORY_METRIC = 'peak memory of load and one run: WebAssembly memory, ArrayBuffers and heap';
const WEB: PeerName = 'onnxruntime-web';

export async function long(subjects: Subjects): Promise<Row[]> {
  const rows: [id: string, measure: () => Promise<Row>][] = [
    ['f32-n4096', () => comparePrecision(subjects, 'f32-n4096', 'float32', 4096, SLOW)],
    ['f32-n4096-memory', () => denseMemory(subjects)],
    ['local-int8-n4096', () => localTime(subjects)],
    ['local-int8-n16384-memory', () => localMemory(subjects)],
  ];
  const out: Row[] = [];
  for (const [id, measure] of rows) out.push(await measure().catch((error) => failedRow(id, error)));
  return out;
}

async function peerTask(subjects: Subjects, kind: GraphKind, length: number): Promise<ChildTask> {
  const model = await subjects.model('float32');
  return {
    engine: WEB,
    file: await subjects.file(`${kind}-${length}.onnx`, async (path) =>
      writeFile(path, await bertGraph(model, kind, length)),
    ),
    ids: await subjects.ids(length),
    kind,
    width: model.config.layers.at(-1)!.outputSize,
    watchMemory: true,
  };
}

/** The peer in its smallest graph that gets through; otherwise the reasons why none does. */
async function peerMemory(
  subjects: Subjects,
  kinds: readonly GraphKind[],
  length: number,
  timeoutMs: number,
): Promise<{ bytes: number | null; output: readonly number[] | null; note: string }> {
  const reasons: string[] = [];
  const done: { bytes: number; output: readonly number[]; note: string }[] = [];
  for (const kind of kinds)
    try {
      const { peakBytes, output } = await inChild(await peerTask(subjects, kind, length), timeoutMs);
      done.push({ bytes: peakBytes!, output, note: `${WEB} ran its ${kind} graph` });
    } catch (error) {
      reasons.push(`${WEB} ${kind}: ${describe(error)}`);
    }
  done.sort((a, b) => a.bytes - b.bytes);
  return done[0] ?? { bytes: null, output: null, note: reasons.join('; ') };
}

async function denseMemory(subjects: Subjects): Promise<Row> {
  const ours = await inChild({
    engine: 'attenuate',
    file: await subjects.artifact('float32'),
    ids: await subjects.ids(4096),
    options: { threads: 1, tilePositions: true },
    watchMemory: true,
  });
  const peer = await peerMemory(subjects, ['float32', 'float32-fused'], 4096, 300_000);
  return {
    id: 'f32-n4096-memory',
    metric: MEMORY_METRIC,
    unit: 'bytes',
    better: 'lower',
    ours: ours.peakBytes,
    peers: { [WEB]: peer.bytes },
    ratio: betterBy('lower', ours.peakBytes, peer.bytes),
    agrees: peer.output && cosine(ours.output, peer.output) >= TOLERANCE.float32,
    tolerance: `cosine ≥ ${TOLERANCE.float32}`,
    note: peer.note,
  };
}

const LOCAL_TOLERANCE = TOLERANCE.int8;
const CHECK_LENGTH = 600;

/** Our windowed int8 against float attention under the same window's mask, at a length where that is affordable. */
async function localSimilarity(subjects: Subjects): Promise<number> {
  const model = await subjects.model('float32');
  const ids = await subjects.ids(CHECK_LENGTH);
  const graph = await bertGraph(model, 'float32', CHECK_LENGTH, WINDOW);
  const reference = await openPeer(WEB, graph, 'float32', model.config.layers.at(-1)!.outputSize);
  const ours = await subjects.load('local-int8', { tilePositions: true });
  const similarity = cosine((await ours.run([ids]))[0], await reference.embed(ids));
  ours.dispose();
  await reference.dispose();
  return similarity;
}

const localTolerance = `cosine ≥ ${LOCAL_TOLERANCE} with masked float attention at n=${CHECK_LENGTH}`;

async function localTime(subjects: Subjects): Promise<Row> {
  const ids = await subjects.ids(4096);
  const similarity = await localSimilarity(subjects);
  const ours = await subjects.load('local-int8', { tilePositions: true });
  const model = await subjects.model('float32');
  const found = await fastestPeer(WEB, model, 'int8', ids, null, SLOW);
  const peer = 'peer' in found ? found.peer : null;
  const { mediansMs, ratios } = await interleave(
    [() => ours.run([ids]), ...(peer ? [() => peer.run(ids)] : [])],
    SLOW,
  );
  ours.dispose();
  await peer?.dispose();
  return {
    id: 'local-int8-n4096',
    metric: 'time of a run, batch 1, one thread; ours: local(128,128) int8, peer: dense int8',
    unit: 'ms',
    better: 'lower',
    ours: mediansMs[0],
    peers: { [WEB]: mediansMs[1] ?? null },
    ratio: ratios[1] ?? null,
    agrees: similarity >= LOCAL_TOLERANCE,
    tolerance: localTolerance,
    note: `cosine ${similarity.toFixed(5)}${'peer' in found ? '' : `; ${WEB}: ${found.unavailable}`}`,
  };
}

async function localMemory(subjects: Subjects): Promise<Row> {
  const similarity = await localSimilarity(subjects);
  const ours = await inChild({
    engine: 'attenuate',
    file: await subjects.artifact('local-int8'),
    ids: await subjects.ids(16384),
    options: { threads: 1, tilePositions: true },
    watchMemory: true,
  });
  const peer = await peerMemory(subjects, ['int8', 'int8-fused'], 16384, 180_000);
  return {
    id: 'local-int8-n16384-memory',
    metric: `${MEMORY_METRIC}; ours: local(128,128) int8, peer: dense int8`,
    unit: 'bytes',
    better: 'lower',
    ours: ours.peakBytes,
    peers: { [WEB]: peer.bytes },
    ratio: betterBy('lower', ours.peakBytes, peer.bytes),
    agrees: similarity >= LOCAL_TOLERANCE && ours.output.every(Number.isFinite),
    tolerance: localTolerance,
    note: peer.note,
  };
}
