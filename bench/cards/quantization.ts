import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { applyRecipe } from '../../src/compress/index.ts';
import { openModel } from '../../src/format/index.ts';
import type { Model } from '../../src/model/config.ts';
import { artifactBytes, textContext } from '../../src/optimize/index.ts';
import { byteSize } from '../../src/tensor/codec.ts';
import { mixtureAtSizeOf, StsbJudge } from '../mixture.ts';
import { openUse, trainingTexts } from '../stsb.ts';
import { type FrontRow, type QuantizationRow, quantizationCard } from './quantization-markdown.ts';
import { rowNames, type Subject, storageOf } from './quantization-rows.ts';
import { runCard } from './run-card.ts';

/** `npm run card:quantization`: every width and method on two real models; text that anything is fitted on is STS-B's training part. */
const MODEL = fileURLToPath(new URL('../../../shared/models/all-MiniLM-L6-v2', import.meta.url));
/** Mixtures of other sizes beside the chosen one. */
const FRONT_POINTS = 3;

const open = (subject: Subject): Promise<Model> => (subject === 'use' ? openUse() : openModel(MODEL));

const weightBytes = ({ weights }: Model): number =>
  [...weights.specs.values()].reduce((sum, spec) => sum + byteSize(spec), 0);

/** The mixture that loses least at a uniform model's size, beside that one, and a front of sizes. */
async function mixtureOf(float: Model, uniform: Model, judge: StsbJudge) {
  const found = await mixtureAtSizeOf(float, uniform, FRONT_POINTS);
  const front: FrontRow[] = [];
  for (const { name, kind, widths, sizeBytes, measured } of found.front) {
    const made = await applyRecipe(float, [{ step: 'quantize', mixed: widths }]);
    front.push({ name, kind, bytes: sizeBytes, output: measured.output, stsb: await judge.score(made) });
  }
  return { made: found.model, front, against: await judge.gain(found.model, uniform) };
}

async function measure(name: string): Promise<QuantizationRow> {
  const { subject, storage } = storageOf(name);
  const about = { name, title: storage.title, recipe: storage.recipe };
  try {
    const [float, judge] = [await open(subject), new StsbJudge()];
    const start = performance.now();
    const context = textContext(await trainingTexts());
    const apply = (recipe: readonly object[]) => applyRecipe(float, recipe as never, context);
    const mixture = storage.mixedAt
      ? await mixtureOf(float, await apply(storageOf(`${subject}:${storage.mixedAt}`).storage.recipe), judge)
      : null;
    const made = mixture?.made ?? (await apply(storage.recipe));
    const madeSeconds = (performance.now() - start) / 1000;
    return {
      ...about,
      ...{ weightBytes: weightBytes(made), bytes: artifactBytes(made), madeSeconds },
      stsb: await judge.score(made),
      change: await judge.gain(made, float),
      ...(mixture && { front: mixture.front, against: mixture.against }),
      failed: null,
    };
  } catch (error) {
    return { ...about, failed: error instanceof Error ? error.message : String(error) };
  }
}

await runCard<QuantizationRow>({
  name: 'quantization',
  rows: rowNames,
  isCurrent: ({ name, recipe }) => JSON.stringify(recipe) === JSON.stringify(storageOf(name).storage.recipe),
  measure,
  markdown: quantizationCard,
  say: (row) =>
    row.failed ??
    `${row.stsb!.toFixed(4)}, ${(row.bytes! / 1e6).toFixed(2)} MB, ${Math.round(row.madeSeconds!)} s`,
  ready: () =>
    existsSync(MODEL) ? null : `no model: expected all-MiniLM-L6-v2 at ${MODEL}, got none. Put a copy there.`,
});
