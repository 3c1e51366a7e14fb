import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import type { Calibration, LayerSample, LayerShape } from '../mechanism.ts';
import hedgehog from '../mechanisms/hedgehog.ts';
import { parseOptions } from '../options.ts';
import {
  distilFeatures,
  distillationGradient,
  distillationLoss,
  type HeadSample,
  type HedgehogMap,
} from './distil-features.ts';

const D = 8;

/** Queries and keys that share a few directions, so that attention is far from even. */
function sample(random: Random, n: number, strength = 2): HeadSample {
  const rows = () => {
    const out = new Float32Array(n * D);
    for (let i = 0; i < n; i++) {
      const topic = random.integer(3);
      for (let d = 0; d < D; d++) out[i * D + d] = 0.5 * random.gaussian() + (d === topic ? strength : 0);
    }
    return out;
  };
  return { n, queries: rows(), keys: rows() };
}

function start(random: Random, m: number, normalise: boolean): HedgehogMap {
  return { weights: Float64Array.from(random.gaussians(m * D, 0.4)), m, D, normalise };
}

/** Entropy of softmax attention: no map can have a lower loss. */
function entropy({ n, queries, keys }: HeadSample): number {
  let total = 0;
  for (let q = 0; q < n; q++) {
    const scores = Array.from({ length: n }, (_, k) => {
      let sum = 0;
      for (let d = 0; d < D; d++) sum += queries[q * D + d] * keys[k * D + d];
      return Math.exp(sum / Math.sqrt(D));
    });
    const sum = scores.reduce((a, b) => a + b);
    for (const s of scores) total -= (s / sum) * Math.log(s / sum);
  }
  return total / n;
}

describe.each([false, true])('distillation, normalised halves: %s', (normalise) => {
  it('has the gradient of its loss', () => {
    const random = new Random(3);
    const samples = [sample(random, 7), sample(random, 11)];
    const map = start(random, 8, normalise);
    const gradient = distillationGradient(samples, map);
    const step = 1e-5;
    for (const i of [0, 5, 17, 40, 63]) {
      const at = (by: number) =>
        distillationLoss(samples, { ...map, weights: map.weights.map((w, j) => (j === i ? w + by : w)) });
      const slope = (at(step) - at(-step)) / (2 * step);
      expect(Math.abs(slope)).toBeGreaterThan(1e-5);
      expect(gradient[i] / slope).toBeCloseTo(1, 4);
    }
  });

  it('lowers the loss on sequences that it did not see, never below the entropy', () => {
    const random = new Random(4);
    const [seen, unseen] = [6, 3].map((count) => Array.from({ length: count }, () => sample(random, 40)));
    const map = start(random, 16, normalise);
    const options = { steps: 250, learningRate: 0.02, rows: 16 };
    const learned = distilFeatures(seen, map, new Random(5), options);
    const floor = unseen.reduce((sum, s) => sum + entropy(s), 0) / unseen.length;
    const [before, after] = [distillationLoss(unseen, map), distillationLoss(unseen, learned)];
    expect(after).toBeGreaterThan(floor);
    expect(after - floor).toBeLessThan(0.35 * (before - floor));
  });
});

describe('hedgehog made from a layer', () => {
  const layer: LayerShape = { index: 1, inputSize: 16, heads: 2, headSize: D, maxLength: 64 };
  const random = new Random(8);
  const sequences = Array.from({ length: 5 }, (_, i) =>
    Array.from({ length: layer.heads }, () => sample(random, 20 + i)),
  );
  const calibration: Calibration = {
    async *layer(index) {
      expect(index).toBe(1);
      for (const heads of sequences) {
        const [{ n }] = heads;
        const join = (part: 'queries' | 'keys') => ({
          shape: [layer.heads, n, D],
          data: Float32Array.from(heads.flatMap((h) => [...h[part]])),
        });
        const nothing = { shape: [0], data: new Float32Array() };
        yield { n, x: nothing, queries: join('queries'), keys: join('keys'), values: nothing } as LayerSample;
      }
    },
  };
  const weight = () => Promise.reject(new Error('not asked for'));
  const make = async (with_: Calibration | null, given = {}) => {
    const options = parseOptions('hedgehog', hedgehog.options, given);
    const made = await hedgehog.initialise!({ layer, weight, calibration: with_ }, options as never);
    return made.get('features')!;
  };
  const mapOf = (data: Float32Array, h: number, m: number): HedgehogMap => ({
    weights: Float64Array.from(data.subarray(h * m * D, (h + 1) * m * D)),
    m,
    D,
    normalise: false,
  });

  it('is the scaled identity where there is no text', async () => {
    const { shape, data } = await make(null);
    expect(shape).toEqual([2, D, D]);
    data.forEach((x, i) => {
      expect(x).toBeCloseTo(Math.floor(i / D) % D === i % D ? D ** -0.25 : 0, 6);
    });
  });

  it('attends more like softmax in every head where there is, and the same each time', async () => {
    const [plain, learned] = [await make(null), await make(calibration)];
    expect(await make(calibration)).toEqual(learned);
    for (let h = 0; h < layer.heads; h++) {
      const samples = sequences.map((heads) => heads[h]);
      const floor = samples.reduce((sum, s) => sum + entropy(s), 0) / samples.length;
      const [before, after] = [plain, learned].map(({ data }) =>
        distillationLoss(samples, mapOf(data, h, D)),
      );
      expect(after - floor).toBeLessThan(0.7 * (before - floor));
    }
  });

  it('keeps to its start with no steps, and pads what is more than the head', async () => {
    expect(await make(calibration, { steps: 0 })).toEqual(await make(null));
    expect((await make(null, { features: 24 })).shape).toEqual([2, 24, D]);
  });
});
