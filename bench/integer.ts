import { applyRecipe } from '../src/compress/index.ts';
import type { Model } from '../src/model/config.ts';
import { watchValues } from '../src/optimize/index.ts';
import { loadModel } from '../src/runtime/index.ts';
import { betterBy, type Row } from './report.ts';
import { embedOurs, readPairs, STSB_METRIC, stsb, trainingTexts } from './stsb.ts';

const STEP = { step: 'integer', method: 'i-bert' } as const;
/** Texts that scales are found on: a seeded choice of the training part's. */
const TEXTS = 512;

/** A model in integers alone beside its floating-point form, calibrated on the training part's text. */
export async function integerRow(id: string, model: Model): Promise<Row> {
  const pairs = await readPairs();
  const texts = await trainingTexts();
  const made = await applyRecipe(model, [STEP], {
    watch: async (current, watch) => (await watchValues(current, texts, watch, { maxTexts: TEXTS })).values,
  });
  const score = async (of: Model): Promise<number> => {
    const loaded = await loadModel(of, { threads: 1 });
    try {
      return await stsb(pairs, embedOurs(loaded));
    } finally {
      loaded.dispose();
    }
  };
  const [ours, float] = [await score(made), await score(model)];
  return {
    id,
    metric: `${STSB_METRIC}, integers alone from the embedding to the pooled rows`,
    unit: '',
    better: 'higher',
    ours,
    peers: { 'our float32': float },
    ratio: betterBy('higher', ours, float),
    agrees: null,
    tolerance: null,
    details: { lost: float - ours, texts: TEXTS },
    note: 'calibrated on text of STS-B train; no training',
  };
}
