import { type Activation, activation } from '../../../src/program/ops/activation.ts';
import { layerNorm } from '../../../src/program/ops/layer-norm.ts';
import { l2Normalize, softmax } from '../../../src/program/ops/normalize.ts';
import type { Value } from '../../../src/program/program.ts';
import type { Tracer } from '../../../src/program/trace.ts';
import type { Codec } from '../../../src/tensor/codec.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase, type Fill, filled } from '../case.ts';

interface RowOptions {
  B?: number;
  N?: number;
  C?: number;
  x?: Fill;
  /** Data in place of a fill, repeated to the input's size. */
  values?: readonly number[];
  finite?: boolean;
}

function rowCase(
  op: string,
  name: string,
  options: RowOptions,
  forward: (t: Tracer, x: Value) => Value,
  weights: (builder: CaseBuilder, C: number) => CaseBuilder = (builder) => builder,
): ConformanceCase {
  const { B = 2, N = 5, C = options.values?.length ?? 24, x = 'gaussian', values } = options;
  return {
    op,
    name,
    finite: options.finite ?? x !== 'with NaN',
    codes: false,
    build(random) {
      const data = values
        ? Float32Array.from({ length: B * N * C }, (_, i) => values[i % values.length])
        : filled(random, B * N * C, x, C);
      const builder = weights(new CaseBuilder(random, { B, N }), C).data('x', data);
      return builder.finish((t, input) => [forward(t, input('x', [symbol('B'), symbol('N'), C]))]);
    },
  };
}

const WIDTHS = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 20, 31, 33, 127, 384];

const activationCase = (kind: Activation, name: string, options: RowOptions): ConformanceCase =>
  rowCase('activation', `${kind}: ${name}`, options, (t, x) => activation(t, x, kind));

export const activationCases: ConformanceCase[] = (
  ['none', 'gelu', 'geluTanh', 'relu', 'tanh'] as const
).flatMap((kind) => [
  activationCase(kind, 'ordinary', { C: 64 }),
  ...[1, 3, 5, 18].map((C) => activationCase(kind, `${C} columns`, { N: 3, C })),
  activationCase(kind, 'one value', { B: 1, N: 1, C: 1 }),
  activationCase(kind, 'every tenth from −12 to 12', {
    values: Array.from({ length: 241 }, (_, i) => (i - 120) / 10),
  }),
  activationCase(kind, 'magnitudes of 1e4', { x: 'large' }),
  activationCase(kind, 'large and negative alone', { x: 'large negative' }),
  activationCase(kind, 'both ends of float32', { values: [1e30, -1e30, 100, -100, 50, -50, 0] }),
  activationCase(kind, 'denormals', { x: 'denormal' }),
  activationCase(kind, 'zeros', { x: 'zero' }),
  activationCase(kind, 'NaN stays where it is', { x: 'with NaN' }),
]);

const normCase = (
  name: string,
  options: RowOptions,
  epsilon = 1e-5,
  codec: Codec = 'float32',
): ConformanceCase =>
  rowCase(
    'layerNorm',
    name,
    options,
    (t, x) => layerNorm(t, x, t.parameter('scale'), t.parameter('bias'), epsilon),
    (builder, C) =>
      builder
        .weight(
          'scale',
          codec,
          [C],
          builder.random.gaussians(C, 0.2).map((v) => 1 + v),
        )
        .weight('bias', codec, [C], builder.random.gaussians(C, 0.3)),
  );

export const layerNormCases: ConformanceCase[] = [
  normCase('ordinary', { C: 64 }),
  ...WIDTHS.map((C) => normCase(`${C} columns`, { C })),
  normCase('one row', { B: 1, N: 1, C: 20 }),
  normCase('epsilon of BERT', {}, 1e-12),
  normCase('float16 parameters', {}, 1e-5, 'float16'),
  normCase('magnitudes of 1e4', { x: 'large' }),
  normCase('constant rows', { x: 'constant' }),
  normCase('zeros', { x: 'zero' }),
  normCase('denormals', { x: 'denormal' }),
];

const softmaxCase = (name: string, options: RowOptions): ConformanceCase =>
  rowCase('softmax', name, options, softmax);

export const softmaxCases: ConformanceCase[] = [
  softmaxCase('ordinary', { C: 64 }),
  ...WIDTHS.map((C) => softmaxCase(`${C} columns`, { C })),
  softmaxCase('one row', { B: 1, N: 1, C: 6 }),
  softmaxCase('magnitudes of 1e4', { x: 'large' }),
  softmaxCase('large and negative alone', { x: 'large negative' }),
  softmaxCase('constant rows', { x: 'constant' }),
  softmaxCase('denormals', { x: 'denormal' }),
  softmaxCase('negative infinity weighs nothing', { values: [1, -Infinity, 0.5, 2, -Infinity] }),
  softmaxCase('neighbours of the maximum far above the rest', { values: [88, 87.5, -88, 0, 60, 3, 87] }),
];

const l2Case = (name: string, options: RowOptions): ConformanceCase =>
  rowCase('l2Normalize', name, options, l2Normalize);

export const l2NormalizeCases: ConformanceCase[] = [
  l2Case('ordinary', { C: 64 }),
  ...WIDTHS.map((C) => l2Case(`${C} columns`, { C })),
  l2Case('one row', { B: 1, N: 1, C: 20 }),
  l2Case('magnitudes of 1e4', { x: 'large' }),
  l2Case('rows of zeros among others', { N: 7, x: 'some zero' }),
  l2Case('zeros', { x: 'zero' }),
  l2Case('denormals', { x: 'denormal' }),
];
