import { stat } from 'node:fs/promises';
import { applyRecipe } from '../src/compress/index.ts';
import { outputError } from '../src/compress/quantize/output-error.ts';
import { writeArtifact } from '../src/format/index.ts';
import type { Model } from '../src/model/config.ts';
import { isMatrix, names } from '../src/model/names.ts';
import { layerOf } from '../src/model/roles.ts';
import { artifactBytes, observeInputs, textContext } from '../src/optimize/index.ts';
import { loadModel } from '../src/runtime/index.ts';
import type { TextModel } from '../src/runtime/types.ts';
import { columnsOf, decode } from '../src/tensor/codec.ts';
import { mixtureAtSizeOf, StsbJudge, uniformInt4 } from './mixture.ts';
import { describe, type Precision } from './peers.ts';
import { betterBy, type Row } from './report.ts';
import { embedOurs, type Pair, readPairs, STSB_METRIC, stsb, trainingTexts } from './stsb.ts';
import type { Subjects } from './subjects.ts';
import { embedPeer, openWeb, WEB } from './web-peer.ts';

const GPTQ4 = { step: 'quantize', bits: 4, groupSize: 32, method: 'gptq' } as const;

interface Subject {
  readonly id: string;
  readonly step: object;
  /** Most that may be lost against our float model. */
  readonly tolerance: number;
  readonly peer: Precision;
  readonly maxBytes?: number;
}

const SUBJECTS: readonly Subject[] = [
  {
    id: 'stsb-dev-int8-smooth',
    step: { step: 'quantize', bits: 8, method: 'smoothquant' },
    tolerance: 0.001,
    peer: 'int8',
  },
  { id: 'stsb-dev-int4-emb8', step: { ...GPTQ4, embeddings: 'int8' }, tolerance: 0.002, peer: 'int4' },
  {
    id: 'stsb-dev-int4-emb4',
    step: { ...GPTQ4, embeddings: 'int4-g128' },
    tolerance: 0.004,
    peer: 'int4',
    maxBytes: 13e6,
  },
];

/** Models quantised on the training part's text, on data that nothing was chosen by, beside float and the peer. */
export const quantizedRows: readonly [id: string, measure: (subjects: Subjects) => Promise<Row>][] = [
  ...SUBJECTS.map((subject): [string, (subjects: Subjects) => Promise<Row>] => [
    subject.id,
    (subjects) => quantizedRow(subjects, subject),
  ]),
  ['stsb-dev-mixed', (subjects) => mixedRow(subjects)],
  ['gptq-output-error', (subjects) => outputErrorRow(subjects)],
];

let floatScore: Promise<number> | null = null;

async function scoreOf(model: TextModel, pairs: readonly Pair[]): Promise<number> {
  try {
    return await stsb(pairs, embedOurs(model));
  } finally {
    model.dispose();
  }
}

async function quantizedRow(
  subjects: Subjects,
  { id, step, tolerance, peer, maxBytes }: Subject,
): Promise<Row> {
  const pairs = await readPairs();
  floatScore ??= subjects.load('float32').then((model) => scoreOf(model, pairs));
  const float = await floatScore;
  const made = await applyRecipe(await subjects.model('float32'), [step], textContext(await trainingTexts()));
  const file = await subjects.file(`${id}.safetensors`, (path) => writeArtifact(made, path));
  const bytes = (await stat(file)).size;
  const ours = await scoreOf(await loadModel(made, { threads: 1 }), pairs);
  const web = await peerScore(subjects, peer, pairs);
  const small = maxBytes === undefined || bytes <= maxBytes;
  return {
    id,
    metric: STSB_METRIC,
    unit: '',
    better: 'higher',
    ours,
    peers: { 'our float32': float, [WEB]: web.score },
    ratio: betterBy('higher', ours, float),
    agrees: float - ours <= tolerance && small,
    tolerance: `no more than ${tolerance} below our float32${maxBytes ? `, at most ${maxBytes / 1e6} MB` : ''}`,
    details: { lost: float - ours, bytes },
    note: `calibrated on text of STS-B train; ${web.note}`,
  };
}

/** Widths searched at uniform int4's size, against uniform int4, on pairs that neither saw. */
async function mixedRow(subjects: Subjects): Promise<Row> {
  const [float, judge] = [await subjects.model('float32'), new StsbJudge()];
  const uniform = await uniformInt4(float);
  const { model, step } = await mixtureAtSizeOf(float, uniform);
  const gain = await judge.gain(model, uniform);
  const [ours, other] = [await judge.score(model), await judge.score(uniform)];
  const decided = gain.low > 0 || gain.high < 0;
  return {
    id: 'stsb-dev-mixed',
    metric: STSB_METRIC,
    unit: '',
    better: 'higher',
    ours,
    peers: { 'uniform int4, groups of 32': other, 'our float32': await judge.score(float) },
    ratio: betterBy('higher', ours, other),
    agrees: decided ? gain.low > 0 : null,
    tolerance: 'the 95 % paired bootstrap interval of the gain lies above 0',
    details: {
      gain: gain.value,
      'interval from': gain.low,
      'interval to': gain.high,
      bytes: artifactBytes(model),
      'bytes of uniform int4': artifactBytes(uniform),
    },
    note: `${decided ? 'the interval excludes 0' : 'the interval does not exclude 0'}; ${JSON.stringify(step)}`,
  };
}

async function peerScore(
  subjects: Subjects,
  precision: Precision,
  pairs: readonly Pair[],
): Promise<{ score: number | null; note: string }> {
  try {
    const [peer, tokens] = [await openWeb(subjects, precision), await subjects.load('float32')];
    const score = await stsb(pairs, embedPeer(peer, tokens));
    tokens.dispose();
    await peer.dispose();
    return { score, note: `${WEB} ran its ${peer.kind} graph` };
  } catch (error) {
    return { score: null, note: `${WEB}: ${describe(error)}` };
  }
}

const LEAST_GAIN = 1.25;

/** How much of each product's output is lost in int4, groups of 32: by GPTQ and by rounding to nearest, on other text than GPTQ saw. */
async function outputErrorRow(subjects: Subjects): Promise<Row> {
  const float = await subjects.model('float32');
  const texts = await trainingTexts();
  const products = [...float.weights.specs.keys()].filter((name) => isMatrix(name) && name !== names.word);
  const other = texts.filter((_, i) => i % 2 === 1);
  const { inputs } = await observeInputs(float, other, { products, moments: true });
  const context = textContext(texts.filter((_, i) => i % 2 === 0));
  const step = { ...GPTQ4, embeddings: false };
  const models = {
    gptq: await applyRecipe(float, [step], context),
    nearest: await applyRecipe(float, [{ ...step, method: 'rtn', clipping: 'max' }]),
    fitted: await applyRecipe(float, [{ ...step, method: 'rtn', clipping: 'mse' }]),
  };
  const errors = async (model: Model, layer: number | null) => {
    const parts: number[] = [];
    for (const name of products.filter((product) => layer === null || layerOf(product) === layer)) {
      const spec = float.weights.specs.get(name)!;
      const [exact, rounded] = await Promise.all(
        [float, model].map(async ({ weights }) => decode(await weights.read(name))),
      );
      const { error, power } = outputError(exact, rounded, inputs.get(name)!.moments!, columnsOf(spec.shape));
      parts.push(Math.sqrt(error / power));
    }
    return parts.reduce((a, b) => a + b, 0) / parts.length;
  };
  const layers = float.config.layers.map((_, i) => i);
  const byLayer = await Promise.all(
    layers.map(async (i) => ({
      gptq: await errors(models.gptq, i),
      nearest: await errors(models.nearest, i),
      fitted: await errors(models.fitted, i),
    })),
  );
  const mean = (of: keyof typeof models) =>
    byLayer.reduce((sum, layer) => sum + layer[of], 0) / byLayer.length;
  const gain = mean('fitted') / mean('gptq');
  return {
    id: 'gptq-output-error',
    metric:
      'relative L2 error of products’ outputs, int4 in groups of 32, mean of all layers, on text that GPTQ did not see',
    unit: '',
    better: 'lower',
    ours: mean('gptq'),
    peers: {
      'to nearest, scales of least squares': mean('fitted'),
      'to nearest, scales by the largest value': mean('nearest'),
    },
    ratio: gain,
    agrees: gain >= LEAST_GAIN && byLayer.every(({ gptq, fitted }) => fitted / gptq >= LEAST_GAIN),
    tolerance: `at least ${LEAST_GAIN} times less in each layer`,
    details: Object.fromEntries(
      byLayer.map(({ gptq, fitted, nearest }, i) => [
        `layer ${i}`,
        `${gptq.toFixed(4)}, to nearest ${fitted.toFixed(4)} (${(fitted / gptq).toFixed(2)}×) and ${nearest.toFixed(4)} (${(nearest / gptq).toFixed(2)}×)`,
      ]),
    ),
  };
}
