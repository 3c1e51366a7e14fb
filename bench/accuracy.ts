import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { load, loadModel } from '../src/runtime/index.ts';
import type { TextModel } from '../src/runtime/types.ts';
import { integerRow } from './integer.ts';
import { cosine } from './outputs.ts';
import { describe, type Precision } from './peers.ts';
import { quantizedRows } from './quantization.ts';
import { betterBy, failedRow, type Row } from './report.ts';
import { embedOurs, openUse, type Pair, readPairs, STSB_METRIC, stsb } from './stsb.ts';
import type { Subjects } from './subjects.ts';
import { embedPeer, openWeb, WEB } from './web-peer.ts';

interface Golden {
  readonly sentences: readonly { text: string; ids: number[]; embedding: number[] }[];
}

async function golden(subjects: Subjects): Promise<Row> {
  const { sentences }: Golden = JSON.parse(await readFile(join(subjects.folder, 'golden.json'), 'utf8'));
  const model = await subjects.load('float32');
  const vectors = await embedOurs(model)(sentences.map(({ text }) => text));
  const ours = Math.min(...sentences.map(({ embedding }, i) => cosine(vectors[i], embedding)));
  const tokens = await Promise.all(sentences.map(({ text }) => model.tokenize(text)));
  const differ = sentences.filter(({ ids }, i) => `${tokens[i]}` !== `${ids}`);
  let web: number | null = null;
  let note = `${sentences.length - differ.length} of ${sentences.length} texts have equal token ids`;
  try {
    const peer = await openWeb(subjects, 'float32');
    web = 1;
    for (const { ids, embedding } of sentences) web = Math.min(web, cosine(await peer.embed(ids), embedding));
    await peer.dispose();
  } catch (error) {
    note += `; ${WEB}: ${describe(error)}`;
  }
  model.dispose();
  return {
    id: 'golden-f32',
    metric: 'lowest cosine with float64 embeddings of the golden texts',
    unit: '',
    better: 'higher',
    ours,
    peers: { [WEB]: web },
    ratio: betterBy('higher', ours, web),
    agrees: ours >= 0.99999 && differ.length === 0,
    tolerance: 'cosine ≥ 0.99999 and equal token ids',
    note,
  };
}

type Rounded = Exclude<Precision, 'int4'>;
const STSB_TOLERANCE: Record<Rounded, number> = { float32: 0.0002, int8: 0.002 };

/** Ours must not be worse than the peer by more than the tolerance; float must not differ by more either way. */
export async function stsbRow(
  subjects: Subjects,
  id: string,
  precision: Rounded,
  pairs: readonly Pair[],
): Promise<Row> {
  const model = await subjects.load(precision);
  const ours = await stsb(pairs, embedOurs(model));
  let web: number | null = null;
  let note: string | undefined;
  try {
    const peer = await openWeb(subjects, precision);
    web = await stsb(pairs, embedPeer(peer, model));
    note = `${WEB} ran its ${peer.kind} graph`;
    await peer.dispose();
  } catch (error) {
    note = `${WEB}: ${describe(error)}`;
  }
  model.dispose();
  const tolerance = STSB_TOLERANCE[precision];
  const behind = web === null ? null : web - ours;
  return {
    id,
    metric: STSB_METRIC,
    unit: '',
    better: 'higher',
    ours,
    peers: { [WEB]: web },
    ratio: betterBy('higher', ours, web),
    agrees: behind === null ? null : (precision === 'int8' ? behind : Math.abs(behind)) <= tolerance,
    tolerance: precision === 'int8' ? `no more than ${tolerance} below the peer` : `±${tolerance}`,
    note,
  };
}

/** Measured elsewhere with the original graph: no npm peer runs these weights. */
const USE_PUBLISHED = 0.7839;
const USE_TOLERANCE = 0.0005;

export async function useRow(pairs: readonly Pair[]): Promise<Row> {
  const opened = await openUse();
  const model = await loadModel(opened, { threads: 1 });
  const ours = await stsb(pairs, embedOurs(model));
  model.dispose();
  await opened.weights.close?.();
  return {
    id: 'use-stsb-dev',
    metric: `${STSB_METRIC}, Universal Sentence Encoder Lite`,
    unit: '',
    better: 'higher',
    ours,
    peers: { published: USE_PUBLISHED },
    ratio: betterBy('higher', ours, USE_PUBLISHED),
    agrees: Math.abs(ours - USE_PUBLISHED) <= USE_TOLERANCE,
    tolerance: `±${USE_TOLERANCE}`,
  };
}

const MINI_EN = fileURLToPath(new URL('../models/attenuate-mini-en/model.safetensors', import.meta.url));
const MINI_EN_LEAST = 0.8;

/** Our own small model, as it ships, beside its teacher in float32. */
export async function miniRow(subjects: Subjects, pairs: readonly Pair[]): Promise<Row> {
  const measure = async (model: TextModel) => {
    const found = await stsb(pairs, embedOurs(model));
    model.dispose();
    return found;
  };
  const [ours, teacher] = [await measure(await load(MINI_EN)), await measure(await subjects.load('float32'))];
  return {
    id: 'mini-en-stsb-dev',
    metric: `${STSB_METRIC}, attenuate-mini-en`,
    unit: '',
    better: 'higher',
    ours,
    peers: { teacher },
    ratio: betterBy('higher', ours, teacher),
    agrees: ours >= MINI_EN_LEAST,
    tolerance: `at least ${MINI_EN_LEAST}`,
    details: { bytes: (await stat(MINI_EN)).size },
  };
}

export async function accuracy(subjects: Subjects): Promise<Row[]> {
  const rows: [id: string, measure: () => Promise<Row>][] = [
    ['golden-f32', () => golden(subjects)],
    ['stsb-dev-f32', async () => stsbRow(subjects, 'stsb-dev-f32', 'float32', await readPairs())],
    ['stsb-dev-int8-plain', async () => stsbRow(subjects, 'stsb-dev-int8-plain', 'int8', await readPairs())],
    ...quantizedRows.map(([id, row]): [string, () => Promise<Row>] => [id, () => row(subjects)]),
    [
      'stsb-dev-integer-only',
      async () => integerRow('stsb-dev-integer-only', await subjects.model('float32')),
    ],
    ['mini-en-stsb-dev', async () => miniRow(subjects, await readPairs())],
    ['use-stsb-dev', async () => useRow(await readPairs())],
    ['use-stsb-dev-integer-only', async () => integerRow('use-stsb-dev-integer-only', await openUse())],
  ];
  const out: Row[] = [];
  for (const [id, measure] of rows) out.push(await measure().catch((error) => failedRow(id, error)));
  return out;
}
