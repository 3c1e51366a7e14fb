import { describe, expect, it } from 'vitest';
import { columnsOf, encode, type WeightSpec } from '../../tensor/codec.ts';
import { Random } from '../../tensor/random.ts';
import { valuesOf, weightOf } from './chosen-codes.ts';
import { roundToNearest } from './fit.ts';

const shape = [16, 128];
const values = new Random(5).gaussians(16 * 128, 0.1);
const errorOf = (rounded: Float32Array, importance?: Float64Array) =>
  rounded.reduce((sum, v, i) => sum + (importance?.[i % 128] ?? 1) * (v - values[i]) ** 2, 0);

const specs: WeightSpec[] = [
  { codec: 'int8', shape },
  { codec: 'int8', shape, perTensor: true },
  { codec: 'int4', shape },
  { codec: 'int4', shape, groupSize: 32 },
  { codec: 'int4', shape, groupSize: 64, scheme: 'affine' },
  { codec: 'int2', shape, groupSize: 32 },
  { codec: 'int2', shape, groupSize: 32, scheme: 'affine' },
  { codec: 'ternary', shape },
  { codec: 'binary', shape, groupSize: 128 },
];

describe('roundToNearest', () => {
  it.each(specs)('by the largest value is the codec’s own: $codec $groupSize $scheme', (spec) => {
    expect(weightOf(spec, roundToNearest(spec, values, 'max'))).toEqual(encode(spec, values));
  });

  it.each(specs)('by the least error never loses more: $codec $groupSize $scheme', (spec) => {
    const [max, mse] = (['max', 'mse'] as const).map((clipping) =>
      errorOf(valuesOf(spec, roundToNearest(spec, values, clipping))),
    );
    expect(mse).toBeLessThanOrEqual(max * (1 + 1e-6));
    if (spec.codec === 'int4' || spec.codec === 'int2') expect(mse).toBeLessThan(0.97 * max);
  });

  it.each(specs.filter(({ perTensor }) => !perTensor))(
    'serves the columns that matter: $codec $groupSize $scheme',
    (spec) => {
      const importance = Float64Array.from({ length: columnsOf(shape) }, (_, c) => (c % 8 === 0 ? 50 : 0.1));
      const plain = errorOf(valuesOf(spec, roundToNearest(spec, values, 'mse')), importance);
      const weighed = errorOf(valuesOf(spec, roundToNearest(spec, values, 'mse', importance)), importance);
      expect(weighed).toBeLessThanOrEqual(plain * (1 + 1e-6));
    },
  );

  it('gives zeros for zeros, and refuses what is not finite', () => {
    const spec: WeightSpec = { codec: 'int4', shape: [1, 32], groupSize: 32 };
    expect(valuesOf(spec, roundToNearest(spec, new Float32Array(32), 'mse'))).toEqual(new Float32Array(32));
    expect(() => roundToNearest(spec, new Float32Array(32).fill(Infinity), 'mse')).toThrow(
      expect.objectContaining({ code: 'WEIGHT_NOT_FINITE' }),
    );
  });

  it('comes near the error that theory gives a Gaussian', () => {
    const spec: WeightSpec = { codec: 'binary', shape };
    const power = values.reduce((sum, v) => sum + v * v, 0);
    const relative = Math.sqrt(errorOf(valuesOf(spec, roundToNearest(spec, values, 'mse'))) / power);
    expect(relative).toBeCloseTo(Math.sqrt(1 - 2 / Math.PI), 1);
  });
});
