import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Mechanism } from '../../src/attention/mechanism.ts';
import { applyRecipe } from '../../src/compress/index.ts';
import { openModel } from '../../src/format/index.ts';
import type { Model } from '../../src/model/config.ts';
import { calibrationFrom } from '../../src/optimize/calibration.ts';
import { loadModel } from '../../src/runtime/index.ts';
import { byteSize } from '../../src/tensor/codec.ts';
import { variants } from '../attention/cases.ts';
import { installPeers } from '../install.ts';
import { peersInstalled } from '../peers.ts';
import { accuracyOf, attentionCard, type CardRow } from './attention-markdown.ts';
import { runCard } from './run-card.ts';
import { calibrationTexts, SCORED_MAILS, spamProbe, stsbDev } from './tasks.ts';

/** `npm run card:attention`: every mechanism in every layer of MiniLM without any training, on short sentences and on long mails. */
const MODEL = fileURLToPath(new URL('../../../shared/models/all-MiniLM-L6-v2', import.meta.url));

async function measure(
  base: Model,
  name: string,
  mechanism: Mechanism,
  options: Readonly<Record<string, unknown>>,
): Promise<CardRow> {
  const about = {
    name,
    kind: mechanism.kind,
    options,
    training: mechanism.needs.training,
    calibration: mechanism.needs.calibration,
  };
  try {
    const texts = await calibrationTexts();
    const recipe = [{ step: 'attention', kind: mechanism.kind, ...options }];
    const start = performance.now();
    const model = await applyRecipe(base, recipe, { calibrate: (built) => calibrationFrom(built, texts) });
    const madeSeconds = (performance.now() - start) / 1000;
    const loaded = await loadModel(model, { threads: 1 });
    try {
      const stsb = await stsbDev(loaded);
      const mails = (await spamProbe(loaded)).map(Number).join('');
      const bytes = [...model.weights.specs.values()].reduce((sum, spec) => sum + byteSize(spec), 0);
      return { ...about, stsb, mails, bytes, madeSeconds, failed: null };
    } finally {
      loaded.dispose();
    }
  } catch (error) {
    const failed = error instanceof Error ? error.message : String(error);
    return { ...about, stsb: null, mails: null, bytes: null, madeSeconds: null, failed };
  }
}

/** A mechanism by the first of its benchmark's options, and what else changes the result without any training. */
const isRow = ({ name, mechanism }: ReturnType<typeof variants>[number]): boolean =>
  name === Object.keys(mechanism.bench)[0] || /int8/.test(name);

const wanted = variants()
  .filter(isRow)
  .sort((a, b) => Number(b.name === 'dense') - Number(a.name === 'dense'));
const optionsOf = (name: string) => JSON.stringify(wanted.find((variant) => variant.name === name)?.options);

await runCard<CardRow>({
  name: 'attention',
  rows: wanted.map(({ name }) => name),
  isCurrent: ({ name, options, mails }) =>
    JSON.stringify(options) === optionsOf(name) && mails?.length === SCORED_MAILS,
  async measure(name) {
    const { mechanism, options } = wanted.find((variant) => variant.name === name)!;
    return measure(await openModel(MODEL), name, mechanism, options);
  },
  markdown: attentionCard,
  say: ({ failed, stsb, mails }) =>
    failed ?? `STS-B ${stsb!.toFixed(4)}, mails ${accuracyOf(mails!).toFixed(3)}`,
  async ready() {
    if (!existsSync(MODEL))
      return `no model: expected all-MiniLM-L6-v2 at ${MODEL}, got none. Put a copy there.`;
    if (!peersInstalled()) await installPeers();
    return null;
  },
  workers: cpus().length,
});
