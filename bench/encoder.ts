import type { TextModel } from '../src/runtime/types.ts';
import { cosine, median } from './outputs.ts';
import { fastestPeer, PEERS, type Precision, TOLERANCE } from './peers.ts';
import { failedRow, type Row } from './report.ts';
import { type ChildTask, inChild } from './spawn.ts';
import type { Subjects, Variant } from './subjects.ts';
import { compare, type InterleaveOptions, interleave } from './timing.ts';
import { tinybertRow } from './tinybert.ts';

const METRIC = 'median time of a run, batch 1, one thread';

/** Ours against the fastest graph of the same precision that each peer runs, on the same weights and ids. */
export async function comparePrecision(
  subjects: Subjects,
  id: string,
  precision: Precision,
  length: number,
  timing: InterleaveOptions = {},
  variant: Variant = precision === 'int4' ? 'int4-full' : precision,
): Promise<Row> {
  const ids = await subjects.ids(length);
  const model = await subjects.model('float32');
  const ours = await subjects.load(variant, { tilePositions: true });
  const float = await subjects.load('float32', { tilePositions: true });
  const expected = (await float.run([ids]))[0].slice();
  float.dispose();
  const output = (await ours.run([ids]))[0].slice();
  const found = [];
  for (const name of PEERS)
    found.push({ name, result: await fastestPeer(name, model, precision, ids, expected, timing) });
  const open = found.flatMap(({ result }) => ('peer' in result ? [result.peer] : []));
  const comparison = await interleave([() => ours.run([ids]), ...open.map((p) => () => p.run(ids))], timing);
  const similarity = new Map<string, number>();
  for (const peer of open) similarity.set(peer.name, cosine(output, await peer.embed(ids)));
  const main = open.findIndex((peer) => peer.name === PEERS[0]);
  const peers = Object.fromEntries(
    found.map(({ name }) => {
      const i = open.findIndex((peer) => peer.name === name);
      return [name, i < 0 ? null : comparison.mediansMs[i + 1]];
    }),
  );
  const notes = found.map(({ name, result }) =>
    'peer' in result
      ? `${name} ran its ${result.peer.kind} graph, cosine ${similarity.get(name)!.toFixed(6)}`
      : `${name} unavailable: ${result.unavailable}`,
  );
  if (comparison.spread > 0.1)
    notes.push(`halves of the run differ by ${(100 * comparison.spread).toFixed(0)}%`);
  ours.dispose();
  for (const peer of open) await peer.dispose();
  return {
    id,
    metric: METRIC,
    unit: 'ms',
    better: 'lower',
    ours: comparison.mediansMs[0],
    peers,
    ratio: main < 0 ? null : comparison.ratios[main + 1],
    agrees: main < 0 ? null : similarity.get(PEERS[0])! >= TOLERANCE[precision],
    tolerance: `cosine ≥ ${TOLERANCE[precision]}`,
    note: notes.join('; '),
  };
}

async function threads(subjects: Subjects): Promise<Row> {
  const ids = await subjects.ids(128);
  const contenders: TextModel[] = [
    await subjects.load('float32', { threads: 2 }),
    await subjects.load('float32', { threads: 1 }),
  ];
  const { mediansMs, ratios } = await interleave(contenders.map((model) => () => model.run([ids])));
  const [two, one] = [(await contenders[0].run([ids]))[0], (await contenders[1].run([ids]))[0]];
  const { fallbacks, threads: running } = contenders[0].info;
  for (const model of contenders) model.dispose();
  return {
    id: 'threads2-f32-n128',
    metric: 'median time of a run, batch 1, two threads',
    unit: 'ms',
    better: 'lower',
    ours: mediansMs[0],
    peers: { 'attenuate, one thread': mediansMs[1] },
    ratio: ratios[1],
    agrees: two.every((x, i) => x === one[i]),
    tolerance: 'equal to the bit',
    note: [`${running} threads ran`, ...fallbacks].join('; '),
  };
}

const WIDE_PAIRS = 5;

/** The engine flag behind `wide` holds for a whole process, so the two sides take turns as child processes. */
async function wide(subjects: Subjects): Promise<Row> {
  const task: ChildTask = {
    engine: 'attenuate',
    file: await subjects.artifact('float32'),
    ids: await subjects.ids(128),
    warmRunMs: 1500,
  };
  const times: [number[], number[]] = [[], []];
  const outputs: (readonly number[])[] = [];
  for (let pair = 0; pair < WIDE_PAIRS; pair++)
    for (const [i, wide] of [true, false].entries()) {
      const result = await inChild({ ...task, options: { wide, threads: 1 } });
      times[i].push(result.runMs!);
      outputs[i] = result.output;
    }
  const { ratios } = compare(times);
  const ours = median(times[0]);
  const narrow = median(times[1]);
  return {
    id: 'f32-wide-n128',
    metric: METRIC,
    unit: 'ms',
    better: 'lower',
    ours,
    peers: { 'attenuate, default': narrow },
    ratio: ratios[1],
    agrees: cosine(outputs[0], outputs[1]) >= TOLERANCE.float32,
    tolerance: `cosine ≥ ${TOLERANCE.float32}`,
  };
}

export async function encoder(subjects: Subjects): Promise<Row[]> {
  const rows: [id: string, measure: () => Promise<Row>][] = [
    ['f32-n16', () => comparePrecision(subjects, 'f32-n16', 'float32', 16)],
    ['f32-n128', () => comparePrecision(subjects, 'f32-n128', 'float32', 128)],
    ['f32-wide-n128', () => wide(subjects)],
    ['int8-n16', () => comparePrecision(subjects, 'int8-n16', 'int8', 16)],
    ['int8-n128', () => comparePrecision(subjects, 'int8-n128', 'int8', 128)],
    ['threads2-f32-n128', () => threads(subjects)],
    ['tinybert-n128', () => tinybertRow(subjects)],
  ];
  const out: Row[] = [];
  for (const [id, measure] of rows) out.push(await measure().catch((error) => failedRow(id, error)));
  return out;
}
