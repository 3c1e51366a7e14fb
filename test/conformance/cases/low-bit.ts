import { embedding } from '../../../src/program/ops/embedding.ts';
import { linear, padHead } from '../../../src/program/ops/linear.ts';
import { quantizeBinary } from '../../../src/program/ops/quantize-binary.ts';
import { quantizeRows } from '../../../src/program/ops/quantize-rows.ts';
import {
  type Codec,
  codeFormat,
  encodeCodes,
  groupSizeOf,
  isAffine,
  type WeightSpec,
} from '../../../src/tensor/codec.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import type { Random } from '../../../src/tensor/random.ts';
import {
  CaseBuilder,
  type ConformanceCase,
  type Fill,
  filled,
  INTEGER_STORAGE,
  type Stored,
} from '../case.ts';

interface LowBitOptions {
  N?: number;
  K?: number;
  /** Rows of each part. */
  C?: number;
  /** How each part is stored. */
  parts: readonly Stored[];
  heads?: number;
  residual?: boolean;
  x?: Fill;
  /** Codes, scales and zero points at the ends of their ranges, and not what Gaussian weights give. */
  extreme?: boolean;
  w?: Fill;
  input?: readonly [suffix: 'inputRange' | 'inputBinary', values: readonly number[]];
}

function lowBitCase(name: string, options: LowBitOptions): ConformanceCase {
  const { N = 5, K = 256, C = 24, parts, heads, x = 'gaussian', input } = options;
  return {
    op: 'linear',
    name,
    finite: true,
    codes: false,
    build(random) {
      const builder = new CaseBuilder(random, { B: 1, N }).data('x', filled(random, N * K, x, K));
      const lead = [symbol('B'), symbol('N')];
      const rows = parts.length * C;
      const shape = heads ? [rows / heads, ...lead, padHead(heads)] : [...lead, rows];
      if (options.residual) builder.data('residual', random.gaussians(N * rows));
      parts.forEach((stored, p) => {
        const spec = { ...(typeof stored === 'string' ? { codec: stored } : stored), shape: [C, K] };
        if (options.extreme) builder.encoded(`w${p}.weight`, extremes(random, spec));
        else builder.weight(`w${p}.weight`, stored, [C, K], options.w && filled(random, C * K, options.w, K));
        builder.weight(`w${p}.bias`, 'float32', [C], random.gaussians(C, 0.5));
        if (input) builder.weight(`w${p}.${input[0]}`, 'float32', [2], Float32Array.from(input[1]));
      });
      return builder.finish((t, given) => [
        linear(
          t,
          given('x', [...lead, K]),
          parts.map((_, p) => t.parameter(`w${p}.weight`)),
          parts.map((_, p) => t.parameter(`w${p}.bias`)),
          {
            heads: heads ? { size: heads } : undefined,
            residual: options.residual ? given('residual', shape) : undefined,
          },
        ),
      ]);
    },
  };
}

/** A weight whose codes are mostly the lowest or the highest, under scales of very different size. */
function extremes(random: Random, spec: WeightSpec) {
  const { low, high, step } = codeFormat(spec);
  const [C, K] = spec.shape;
  const groups = (C * K) / groupSizeOf(spec);
  const code = () => [low, high, low + step * random.integer((high - low) / step + 1)][random.integer(3)];
  return encodeCodes(
    spec,
    Array.from({ length: C * K }, code),
    Array.from({ length: groups }, () => [0, 2 ** -14, 1, 64][random.integer(4)]),
    isAffine(spec) ? Array.from({ length: groups }, () => [0, high, 1][random.integer(3)]) : undefined,
  );
}

const WHOLE_ROWS = INTEGER_STORAGE.filter(([, { groupSize }]) => groupSize === undefined);
const NAMED: readonly Codec[] = ['int8', 'int4', 'int2', 'ternary', 'binary'];
const BINARY_INPUT = ['inputBinary', [0.8, 0.1]] as const;

export const lowBitCases: ConformanceCase[] = [
  ...INTEGER_STORAGE.flatMap(([name, stored]) => [
    lowBitCase(`${name}: codes, scales and zero points at their ends`, { parts: [stored], extreme: true }),
    lowBitCase(`${name}: a single row`, { parts: [stored], N: 1, K: 384, C: 40 }),
    lowBitCase(`${name}: more rows and columns than a tile`, { parts: [stored], N: 13, K: 128, C: 37 }),
  ]),
  ...WHOLE_ROWS.flatMap(([name, stored]) =>
    [1, 7, 27, 130].map((K) =>
      lowBitCase(`${name}: ${K} input columns stored`, { parts: [stored], N: 3, K, C: 11 }),
    ),
  ),
  ...NAMED.flatMap((codec) => [
    lowBitCase(`${codec}: by head with a residual, rows at their ends`, {
      parts: [{ codec }, { codec }],
      K: 64,
      C: 40,
      heads: 8,
      residual: true,
      extreme: true,
    }),
    ...(['large', 'denormal', 'constant', 'zero', 'some zero', 'large negative'] as const).map((x) =>
      lowBitCase(`${codec}: inputs ${x}`, { parts: [codec], K: 64, x }),
    ),
    lowBitCase(`${codec}: weights of zero among others`, { parts: [codec], K: 64, w: 'some zero' }),
    lowBitCase(`${codec}: inputs in a range found beforehand`, {
      parts: [codec],
      input: ['inputRange', [-0.9, 2]],
    }),
  ]),
  lowBitCase('int4 in groups of 32: a long inner product', {
    parts: [{ codec: 'int4', groupSize: 32 }],
    K: 3072,
    C: 9,
  }),
  lowBitCase('int4 in groups of 32: by head', {
    parts: Array(3).fill({ codec: 'int4', groupSize: 32 }),
    K: 64,
    C: 40,
    heads: 20,
  }),
  lowBitCase('parts of different integer codecs', {
    parts: ['int8', { codec: 'int4', groupSize: 64, scheme: 'affine' }, 'ternary'],
    K: 128,
    C: 32,
    heads: 16,
  }),
  lowBitCase('parts of different groups', {
    parts: [{ codec: 'int4', groupSize: 32 }, 'binary', { codec: 'int4' }, { codec: 'int2', groupSize: 128 }],
    K: 128,
    C: 13,
  }),
  lowBitCase('a range that holds no input', {
    parts: ['int8'],
    input: ['inputRange', [-1e-3, 1e-3]],
    x: 'large',
  }),
  lowBitCase('a range of one sign', { parts: ['int4'], input: ['inputRange', [0.5, 1]] }),
  lowBitCase('a range of nothing', { parts: ['int8'], input: ['inputRange', [0, 0]] }),
  ...[1, 31, 32, 33, 127, 128, 129, 384].map((K) =>
    lowBitCase(`binary by binary: ${K} input columns`, { parts: ['binary'], K, C: 19, input: BINARY_INPUT }),
  ),
  ...[32, 64, 128].map((groupSize) =>
    lowBitCase(`binary by binary in groups of ${groupSize}`, {
      parts: [{ codec: 'binary', groupSize }],
      K: 384,
      N: 9,
      C: 33,
      input: BINARY_INPUT,
    }),
  ),
  ...[1, 2, 3, 4, 7, 13].map((N) =>
    lowBitCase(`binary by binary: ${N} rows`, {
      parts: ['binary', 'binary'],
      K: 160,
      N,
      C: 16,
      heads: 8,
      input: BINARY_INPUT,
    }),
  ),
  lowBitCase('binary by binary: codes and scales at their ends', {
    parts: [{ codec: 'binary', groupSize: 32 }],
    extreme: true,
    input: BINARY_INPUT,
  }),
  lowBitCase('binary by binary: inputs of one sign', {
    parts: ['binary'],
    x: 'large negative',
    input: BINARY_INPUT,
  }),
];

interface RangeOptions {
  N?: number;
  K?: number;
  x?: Fill;
}

const rangeCase = (
  op: 'quantizeRows' | 'quantizeBinary',
  name: string,
  range: readonly number[],
  { N = 3, K = 20, x = 'gaussian' }: RangeOptions = {},
): ConformanceCase => ({
  op,
  name: `${op === 'quantizeRows' ? 'given range: ' : ''}${name}`,
  finite: true,
  codes: op === 'quantizeRows',
  build: (random) =>
    new CaseBuilder(random, { B: 2, N })
      .data('x', filled(random, 2 * N * K, x, K))
      .weight('range', 'float32', [2], Float32Array.from(range))
      .finish((t, input) => [
        ...(op === 'quantizeRows' ? quantizeRows : quantizeBinary)(
          t,
          input('x', [symbol('B'), symbol('N'), K]),
          t.parameter('range'),
        ),
      ]),
});

export const givenRangeCases: ConformanceCase[] = [
  rangeCase('quantizeRows', 'ordinary', [-2, 3], { K: 64 }),
  ...[1, 3, 15, 16, 17, 33].map((K) => rangeCase('quantizeRows', `${K} columns`, [-2, 3], { K })),
  rangeCase('quantizeRows', 'inputs outside on both sides', [-0.1, 0.2]),
  rangeCase('quantizeRows', 'inputs far outside', [-1e-3, 1e-3], { x: 'large' }),
  rangeCase('quantizeRows', 'a range above 0', [1, 2]),
  rangeCase('quantizeRows', 'a range below 0', [-2, -1], { x: 'large negative' }),
  rangeCase('quantizeRows', 'a range of nothing', [0, 0]),
  rangeCase('quantizeRows', 'denormal inputs', [-1, 1], { x: 'denormal' }),
];

export const quantizeBinaryCases: ConformanceCase[] = [
  rangeCase('quantizeBinary', 'ordinary', [0.5, 0.25], { K: 64 }),
  ...[1, 4, 7, 31, 32, 33, 127, 128, 129, 300].map((K) =>
    rangeCase('quantizeBinary', `${K} columns`, [1, 0], { K }),
  ),
  rangeCase('quantizeBinary', 'one row', [1, 0], { N: 1 }),
  rangeCase('quantizeBinary', 'inputs at the threshold', [2, 0.75], { x: 'constant' }),
  rangeCase('quantizeBinary', 'zeros', [1, 0], { x: 'zero' }),
  rangeCase('quantizeBinary', 'inputs of one sign', [1, 0], { x: 'large negative' }),
];

function tablesCase(name: string, stored: Stored, columns: number, N = 9): ConformanceCase {
  return {
    op: 'embedding',
    name,
    finite: true,
    codes: false,
    build: (random) =>
      new CaseBuilder(random, { B: 2, N })
        .data('ids', random.integers(2 * N, 37))
        .data('types', random.integers(2 * N, 2))
        .weight('word', stored, [37, columns])
        .weight('position', stored, [16, columns])
        .weight('type', stored, [2, columns])
        .finish((t, input) => [
          embedding(
            t,
            input('ids', [symbol('B'), symbol('N')]),
            input('types', [symbol('B'), symbol('N')]),
            { word: t.parameter('word'), position: t.parameter('position'), tokenType: t.parameter('type') },
            1.5,
          ),
        ]),
  };
}

function extremeTableCase(name: string, stored: Omit<WeightSpec, 'shape'>): ConformanceCase {
  return {
    op: 'embedding',
    name,
    finite: true,
    codes: false,
    build: (random) =>
      new CaseBuilder(random, { B: 1, N: 12 })
        .data('ids', random.integers(12, 9))
        .encoded('word', extremes(random, { ...stored, shape: [9, 128] }))
        .finish((t, input) => [
          embedding(t, input('ids', [symbol('B'), symbol('N')]), null, { word: t.parameter('word') }),
        ]),
  };
}

export const lowBitEmbeddingCases: ConformanceCase[] = [
  ...INTEGER_STORAGE.flatMap(([name, stored]) => [
    tablesCase(`${name}: every table`, stored, 128),
    extremeTableCase(`${name}: codes, scales and zero points at their ends`, stored),
  ]),
  ...WHOLE_ROWS.flatMap(([name, stored]) =>
    [1, 5, 8, 27].map((columns) => tablesCase(`${name}: ${columns} columns stored`, stored, columns, 4)),
  ),
];
