import { embedding } from '../../../src/program/ops/embedding.ts';
import { type Pooling, pool } from '../../../src/program/ops/pool.ts';
import { selectRows } from '../../../src/program/ops/select-rows.ts';
import type { Codec } from '../../../src/tensor/codec.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase, type Fill, filled } from '../case.ts';

interface EmbeddingOptions {
  B?: number;
  N?: number;
  C?: number;
  word?: Codec;
  position?: Codec | null;
  tokenType?: Codec | null;
  positions?: number;
  wordScale?: number;
}

const VOCABULARY = 37;

function embeddingCase(name: string, options: EmbeddingOptions): ConformanceCase {
  const { B = 2, N = 9, C = 24, word = 'float32', positions = 16, wordScale = 1 } = options;
  const { position = 'float32', tokenType = 'float32' } = options;
  return {
    op: 'embedding',
    name,
    finite: true,
    codes: false,
    build(random) {
      const ids = random.integers(B * N, VOCABULARY);
      ids[0] = VOCABULARY - 1;
      ids[ids.length - 1] = 0;
      const builder = new CaseBuilder(random, { B, N }).data('ids', ids);
      if (tokenType) builder.data('types', random.integers(B * N, 2)).weight('tokenType', tokenType, [2, C]);
      if (position) builder.weight('position', position, [positions, C]);
      builder.weight('word', word, [VOCABULARY, C]);
      return builder.finish((t, input) => {
        const shape = [symbol('B'), symbol('N')];
        return [
          embedding(
            t,
            input('ids', shape),
            tokenType ? input('types', shape) : null,
            {
              word: t.parameter('word'),
              position: position ? t.parameter('position') : undefined,
              tokenType: tokenType ? t.parameter('tokenType') : undefined,
            },
            wordScale,
          ),
        ];
      });
    },
  };
}

export const embeddingCases: ConformanceCase[] = [
  embeddingCase('ordinary', { C: 64 }),
  ...(['float16', 'bfloat16', 'int8'] as const).flatMap((codec) => [
    embeddingCase(`${codec} words`, { word: codec }),
    embeddingCase(`${codec} in every table`, { word: codec, position: codec, tokenType: codec }),
    embeddingCase(`${codec}, 19 columns`, { word: codec, position: codec, tokenType: codec, C: 19 }),
  ]),
  ...[1, 3, 4, 7, 18].map((C) => embeddingCase(`${C} columns`, { C })),
  embeddingCase('words alone', { position: null, tokenType: null }),
  embeddingCase('words and positions', { tokenType: null }),
  embeddingCase('words and token types', { position: null }),
  embeddingCase('scaled words', { wordScale: Math.sqrt(24) }),
  embeddingCase('scaled int8 words', { word: 'int8', wordScale: Math.sqrt(24) }),
  embeddingCase('positions that wrap round', { N: 23, positions: 5 }),
  embeddingCase('one token', { B: 1, N: 1 }),
];

interface PoolOptions {
  N?: number;
  C?: number;
  lengths?: number[];
  x?: Fill;
}

function poolCase(pooling: Pooling, name: string, options: PoolOptions): ConformanceCase {
  const { N = 9, C = 24, lengths = [9, 9], x = 'gaussian' } = options;
  const B = lengths.length;
  return {
    op: 'pool',
    name: `${pooling}: ${name}`,
    finite: true,
    codes: false,
    build: (random) =>
      new CaseBuilder(random, { B, N })
        .data('x', filled(random, B * N * C, x, C))
        .data('lengths', Int32Array.from(lengths))
        .finish((t, input) => [
          pool(t, input('x', [symbol('B'), symbol('N'), C]), input('lengths', [symbol('B')]), pooling),
        ]),
  };
}

export const poolCases: ConformanceCase[] = (['mean', 'first', 'max', 'sqrtMean'] as const).flatMap(
  (pooling) => [
    poolCase(pooling, 'ordinary', {}),
    ...[1, 3, 5, 17].map((C) => poolCase(pooling, `${C} columns`, { C })),
    poolCase(pooling, 'lengths shorter than N, and none', { lengths: [9, 4, 1, 0] }),
    poolCase(pooling, 'one token', { N: 1, lengths: [1] }),
    poolCase(pooling, 'many tokens', { N: 300, C: 6, lengths: [300, 257] }),
    poolCase(pooling, 'magnitudes of 1e4', { x: 'large' }),
    poolCase(pooling, 'negative alone', { x: 'large negative' }),
    poolCase(pooling, 'zeros', { x: 'zero' }),
  ],
);

function selectCase(
  name: string,
  B: number,
  N: number,
  P: number,
  C: number,
  x: Fill = 'gaussian',
): ConformanceCase {
  return {
    op: 'selectRows',
    name,
    finite: x !== 'with NaN',
    codes: false,
    build: (random) =>
      new CaseBuilder(random, { B, N, P })
        .data('x', filled(random, B * N * C, x, C))
        .data('rows', random.integers(B * P, N))
        .finish((t, input) => [
          selectRows(t, input('x', [symbol('B'), symbol('N'), C]), input('rows', [symbol('B'), symbol('P')])),
        ]),
  };
}

export const selectRowsCases: ConformanceCase[] = [
  selectCase('ordinary', 3, 11, 4, 24),
  selectCase('more rows than there are', 2, 3, 8, 20),
  selectCase('one of one', 1, 1, 1, 1),
  selectCase('columns not a multiple of 4', 2, 6, 3, 13),
  selectCase('values that are not numbers', 2, 6, 3, 13, 'with NaN'),
];
