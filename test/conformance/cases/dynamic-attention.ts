import { stacked } from '../../../src/program/ops/attention.ts';
import { dynamicAttention } from '../../../src/program/ops/dynamic-attention.ts';
import { padHead } from '../../../src/program/ops/linear.ts';
import { type BlockChoice, selectBlocks } from '../../../src/program/ops/select-blocks.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import type { Random } from '../../../src/tensor/random.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface Options {
  H?: number;
  D?: number;
  blocks?: { query: number; key: number };
  choice?: Partial<BlockChoice>;
  /** Rows of one block stay close together, so that blocks can be predicted. */
  clustered?: boolean;
}

function rows(random: Random, n: number, D: number, heads: number, clustered: boolean): Float32Array {
  const pitch = padHead(D);
  const out = new Float32Array(heads * n * pitch);
  for (let h = 0; h < heads; h++) {
    let centre = random.gaussians(D, 2);
    for (let i = 0; i < n; i++) {
      if (i % 32 === 0) centre = random.gaussians(D, 2);
      const noise = random.gaussians(D, clustered ? 0.3 : 2);
      for (let d = 0; d < D; d++) out[(h * n + i) * pitch + d] = noise[d] + (clustered ? centre[d] : 0);
    }
  }
  return out;
}

function dynamicCase(
  op: 'selectBlocks' | 'dynamicAttention',
  name: string,
  n: number,
  lengths: number[],
  { H = 2, D = 8, blocks = { query: 32, key: 32 }, choice, clustered = true }: Options = {},
): ConformanceCase {
  const B = lengths.length;
  return {
    op,
    name,
    finite: true,
    codes: false,
    build: (random) =>
      new CaseBuilder(random, { B, N: n })
        .data('qkv', rows(random, n, D, 3 * H * B, clustered))
        .data('lengths', Int32Array.from(lengths))
        .finish((t, input) => {
          const qkv = input('qkv', [3 * H, symbol('B'), symbol('N'), padHead(D)]);
          const sources = { ...stacked(qkv, H), lengths: input('lengths', [symbol('B')]) };
          const options = { heads: H, headSize: D, scale: 1 / Math.sqrt(D), blocks };
          const chosen = { mass: 0.8, topK: 0, similarity: 0.3, ...choice };
          const lists = selectBlocks(t, sources, { ...options, choice: chosen });
          if (op === 'selectBlocks') return [lists.lists, lists.entries, lists.kept];
          return [dynamicAttention(t, sources, lists, options)];
        }),
  };
}

const both = (name: string, n: number, lengths: number[], options?: Options): ConformanceCase[] =>
  (['selectBlocks', 'dynamicAttention'] as const).map((op) => dynamicCase(op, name, n, lengths, options));

export const dynamicAttentionCases: ConformanceCase[] = [
  ...both('ordinary', 200, [200]),
  ...both('lengths at and off the edge of a block', 170, [170, 64, 33, 1]),
  ...both('an empty sequence', 70, [0, 70]),
  ...both('one token', 1, [1]),
  ...both('every block at mass 1', 150, [150, 90], { choice: { mass: 1 } }),
  ...both('nothing but the diagonal at mass 0', 150, [150], { choice: { mass: 0, similarity: -1 } }),
  ...both('two blocks a row', 230, [230, 100], { choice: { topK: 2, similarity: -1 } }),
  ...both('more blocks a row than there are', 100, [100], { choice: { topK: 50, similarity: -1 } }),
  ...both('rows that disagree', 150, [150], { clustered: false, choice: { similarity: 0.5 } }),
  ...both('blocks of another shape', 200, [200, 120], { blocks: { query: 64, key: 32 } }),
  ...both('heads of 20', 140, [140], { D: 20, H: 3 }),
];
