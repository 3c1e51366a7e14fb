import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readPairs, stsb } from '../../bench/stsb.ts';
import { openArtifact } from '../../src/format/artifact.ts';
import { fileSource, openModel } from '../../src/format/index.ts';
import { folderFiles } from '../../src/format/node/folder-files.ts';
import type { Model } from '../../src/model/config.ts';
import { runChartFile } from '../../src/report/index.ts';
import { loadModel } from '../../src/runtime/index.ts';
import { byteSize } from '../../src/tensor/codec.ts';
import { readLogs } from '../../src/train/log.ts';
import { type ModelFigures, modelCard } from '../model-card.ts';

/**
 * Measures `attenuate-mini-en` and writes its card: `figures.json`, `run.svg`, `README.md`. Correlations of the same file
 * are kept; the latency, which wants a quiet machine, is measured each time.
 */
const { values } = parseArgs({
  options: {
    teacher: { type: 'string', default: '../shared/models/all-MiniLM-L6-v2' },
    work: { type: 'string', default: 'out/mini-en' },
    out: { type: 'string', default: 'models/attenuate-mini-en' },
  },
});
const RUNS = 400;
const TEXT = 'the quick brown fox jumps over the lazy dog near the river bank today';

const correlation = async (model: Model) => {
  const loaded = await loadModel(model, { threads: 1 });
  const found = await stsb(await readPairs(), (texts) => loaded.embed(texts));
  loaded.dispose();
  return found;
};

async function latency(model: Model): Promise<ModelFigures['latency']> {
  const loaded = await loadModel(model, { threads: 1 });
  const tokens = (await loaded.tokenize(TEXT)).length;
  const times: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    const begun = performance.now();
    await loaded.embed([TEXT]);
    if (run >= RUNS / 4) times.push(performance.now() - begun);
  }
  loaded.dispose();
  times.sort((a, b) => a - b);
  const at = (part: number) => times[Math.floor(part * times.length)];
  return { tokens, medianMs: at(0.5), p95Ms: at(0.95) };
}

const path = join(values.out, 'model.safetensors');
const model = await openArtifact(await fileSource(path));
const weights: Record<string, number> = {};
for (const spec of model.weights.specs.values())
  weights[spec.codec] = (weights[spec.codec] ?? 0) + byteSize(spec);
async function correlations(before: ModelFigures | null): Promise<ModelFigures['stsb']> {
  if (before?.hash === model.hash) return before.stsb;
  const ofFile = async (path: string) => {
    const opened = await openModel(path);
    const found = await correlation(opened);
    await opened.weights.close?.();
    return found;
  };
  const unquantised = existsSync(floats) ? await ofFile(floats) : null;
  const teacher = await ofFile(values.teacher);
  return { model: await correlation(model), unquantised, teacher };
}

const floats = join(values.work, 'trained.safetensors');
const figuresFile = join(values.out, 'figures.json');
const known: ModelFigures | null = existsSync(figuresFile)
  ? JSON.parse(await readFile(figuresFile, 'utf8'))
  : null;
const figures: ModelFigures = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus()[0].model}, Node ${process.versions.node}`,
  bytes: model.byteLength,
  hash: model.hash,
  weights,
  latency: await latency(model),
  stsb: await correlations(known),
  log: await readLogs(folderFiles(values.work)),
};
await writeFile(figuresFile, `${JSON.stringify(figures, null, 2)}\n`);
const points = (field: string) =>
  figures.log.flatMap((entry) =>
    entry[field] === undefined ? [] : [{ step: entry.step, value: entry[field] }],
  );
await writeFile(join(values.out, 'run.svg'), runChartFile(points('loss'), points('score')));
const card = modelCard('attenuate-mini-en', 'npm run train:mini-en', model, figures);
await writeFile(join(values.out, 'README.md'), card);
await model.weights.close?.();
console.log(await readFile(join(values.out, 'README.md'), 'utf8'));
