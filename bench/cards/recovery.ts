import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { progressLine } from '../../src/cli/training.ts';
import type { StepContext } from '../../src/compress/index.ts';
import { applyRecipe } from '../../src/compress/index.ts';
import { openModel } from '../../src/format/index.ts';
import { folderFiles } from '../../src/format/node/folder-files.ts';
import type { Model } from '../../src/model/config.ts';
import { artifactBytes, calibrationFrom } from '../../src/optimize/index.ts';
import { loadModel } from '../../src/runtime/index.ts';
import { nodePlace } from '../../src/train/index.ts';
import { readLogs } from '../../src/train/log.ts';
import { correlationGain, type Interval } from '../bootstrap.ts';
import { installPeers } from '../install.ts';
import { cosine } from '../outputs.ts';
import { peersInstalled } from '../peers.ts';
import { embedOurs, readPairs, scoresOf, similarities, trainingTexts } from '../stsb.ts';
import { type Judged, type RecoveryRow, recoveryCard } from './recovery-markdown.ts';
import { LOSSES, type Loss } from './recovery-rows.ts';
import { runCard } from './run-card.ts';
import { calibrationTexts, halvesFound, mailHalves, trainingDocuments } from './tasks.ts';

/**
 * `npm run card:recovery`: what a step loses and what training brings back, by `"recover"` alone. Unfinished runs stand
 * in `out/recovery` and go on from there.
 */
const MODEL = fileURLToPath(new URL('../../../shared/models/all-MiniLM-L6-v2', import.meta.url));
const WORK = 'out/recovery';
const SEED = 1;

async function contextOf(loss: Loss): Promise<StepContext> {
  const folder = join(WORK, loss.name);
  await mkdir(folder, { recursive: true });
  const texts = loss.on === 'sentences' ? await trainingTexts() : await trainingDocuments();
  const calibration = await calibrationTexts();
  let said = 0;
  return {
    calibrate: (model) => calibrationFrom(model, calibration),
    training: {
      texts: async () => texts,
      place: nodePlace(folder),
      threads: 1,
      wide: true,
      onProgress: (progress) => {
        if (performance.now() - said < 20_000) return;
        said = performance.now();
        process.stderr.write(`${loss.name}: ${progressLine(progress)}\n`);
      },
    },
  };
}

/** Rows of everything that is judged, by one model; documents are long, and only where they are asked for. */
async function rowsOf(model: Model, on: Loss['on']) {
  const loaded = await loadModel(model, { threads: 1 });
  try {
    const embed = embedOurs(loaded);
    const pairs = await similarities(await readPairs(), embed);
    if (on === 'sentences') return { pairs, halves: null };
    const { first, second } = await mailHalves();
    return { pairs, halves: { first: await embed(first), second: await embed(second) } };
  } finally {
    loaded.dispose();
  }
}
type Rows = Awaited<ReturnType<typeof rowsOf>>;

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

async function judge(rows: Rows, dense: Rows): Promise<Judged> {
  const truth = scoresOf(await readPairs());
  const change: Interval = correlationGain(rows.pairs, dense.pairs, truth);
  return {
    stsb: correlationGain(rows.pairs, truth, truth).value + 1,
    change,
    documents:
      rows.halves && dense.halves
        ? {
            cosine: mean(rows.halves.first.map((row, i) => cosine(row, dense.halves!.first[i]))),
            found: mean(halvesFound(rows.halves.first, rows.halves.second).map(Number)),
          }
        : null,
  };
}

async function measure(name: string): Promise<RecoveryRow> {
  const loss = LOSSES.find((other) => other.name === name)!;
  const { title, on, step, recover } = loss;
  const about = { name, title, on, step, recover, seed: SEED };
  try {
    const model = await openModel(MODEL);
    const context = await contextOf(loss);
    const before = await applyRecipe(model, [step as never], context);
    const after = await applyRecipe(
      model,
      [{ ...step, recover: { ...recover, seed: SEED } } as never],
      context,
    );
    // Of all calls: a run may have been stopped and gone on.
    const seconds = (await readLogs(folderFiles(join(WORK, name)))).map((entry) => entry.seconds ?? 0);
    const dense = await rowsOf(model, on);
    return {
      ...about,
      minutes: Math.max(...seconds) / 60,
      bytes: artifactBytes(after),
      float: await judge(dense, dense),
      before: await judge(await rowsOf(before, on), dense),
      after: await judge(await rowsOf(after, on), dense),
      failed: null,
    };
  } catch (error) {
    return { ...about, failed: error instanceof Error ? error.message : String(error) };
  }
}

const planOf = ({ step, recover }: Pick<Loss, 'step' | 'recover'>) => JSON.stringify([step, recover]);

await runCard<RecoveryRow>({
  name: 'recovery',
  rows: LOSSES.map(({ name }) => name),
  isCurrent: (row) => planOf(row) === planOf(LOSSES.find(({ name }) => name === row.name)!),
  measure,
  markdown: recoveryCard,
  say: ({ failed, before, after }) =>
    failed ?? `STS-B ${before!.stsb.toFixed(4)} → ${after!.stsb.toFixed(4)}`,
  async ready() {
    if (!existsSync(MODEL))
      return `no model: expected all-MiniLM-L6-v2 at ${MODEL}, got none. Put a copy there.`;
    if (!peersInstalled()) await installPeers();
    return null;
  },
});
