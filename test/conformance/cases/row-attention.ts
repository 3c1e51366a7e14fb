import { causal } from '../../../src/attention/pattern/patterns.ts';
import { local } from '../../../src/attention/pattern/window.ts';
import type { MaskExpression } from '../../../src/program/mask/expression.ts';
import { stacked } from '../../../src/program/ops/attention.ts';
import { padHead } from '../../../src/program/ops/linear.ts';
import { type Normalizer, rowAttention } from '../../../src/program/ops/row-attention.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface Options {
  D?: number;
  H?: number;
  keyHeads?: number;
  mask?: MaskExpression | null;
  /** Factor on the queries. */
  factor?: number;
  /** Keys are a weight, the same for every text. */
  stored?: boolean;
}

function rowCase(
  name: string,
  normalizer: Normalizer,
  lengths: number[],
  options: Options = {},
): ConformanceCase {
  const { D = 8, H = 2, keyHeads = H, mask = null, factor = 1, stored = false } = options;
  const [B, n, pitch] = [lengths.length, Math.max(...lengths, 1), padHead(D)];
  const heads = H + 2 * keyHeads;
  return {
    op: 'rowAttention',
    name: `${normalizer.kind}, ${name}`,
    finite: true,
    codes: false,
    build: (random) => {
      const made = new CaseBuilder(random, { B, N: n });
      if (stored) {
        const columns = random.gaussians(keyHeads * n * pitch).map((x, i) => (i % pitch >= D ? 0 : x));
        made.weight('keys', 'float32', [keyHeads, n, pitch], columns);
      }
      return made
        .data(
          'qkv',
          random
            .gaussians(heads * B * n * pitch)
            .map((x, i) => (i % pitch >= D ? 0 : i < H * B * n * pitch ? x * factor : x)),
        )
        .data('lengths', Int32Array.from(lengths))
        .finish((t, input) => {
          const qkv = input('qkv', [heads, symbol('B'), symbol('N'), pitch]);
          const lengths = input('lengths', [symbol('B')]);
          const keys = stored ? { keys: { parameter: t.parameter('keys'), from: 0 } } : {};
          const sources = { ...stacked(qkv, H, keyHeads), ...keys, lengths };
          const rest = { heads: H, keyHeads, headSize: D, scale: 1 / Math.sqrt(D), mask };
          return rowAttention(t, sources, rest, normalizer);
        });
    },
  };
}

const NORMALIZERS: readonly Normalizer[] = [
  { kind: 'topK', k: 5 },
  { kind: 'sparsemax' },
  { kind: 'entmax15' },
];

export const rowAttentionCases: ConformanceCase[] = [
  ...NORMALIZERS.flatMap((normalizer) => [
    rowCase('ordinary', normalizer, [90]),
    rowCase('lengths at and off the edge of a block', normalizer, [130, 64, 65, 1, 0]),
    rowCase('one token', normalizer, [1]),
    rowCase('heads of 20', normalizer, [70, 33], { D: 20, H: 3 }),
    rowCase('shared keys', normalizer, [40], { H: 4, keyHeads: 2 }),
    rowCase('window', normalizer, [150, 70], { mask: local(9, 4) }),
    rowCase('causal', normalizer, [75], { mask: causal() }),
    rowCase('equal scores', normalizer, [21], { factor: 0 }),
    rowCase('sharp scores', normalizer, [80], { factor: 20 }),
    rowCase('stored keys', normalizer, [40, 17], { D: 12, H: 4, keyHeads: 2, stored: true }),
  ]),
  // Long enough to be searched by groups of scores.
  ...NORMALIZERS.flatMap((normalizer) => [
    rowCase('many keys', normalizer, [600, 333], { H: 1 }),
    rowCase('many keys, few kept by the mask', normalizer, [520], { H: 1, mask: local(300, 20) }),
    rowCase('many equal scores', normalizer, [330], { H: 1, factor: 0 }),
    rowCase('many sharp scores', normalizer, [400], { H: 1, factor: 20 }),
  ]),
  rowCase('forty of many', { kind: 'topK', k: 40 }, [900], { H: 1 }),
  rowCase('the largest alone', { kind: 'topK', k: 1 }, [77]),
  rowCase('more than there are', { kind: 'topK', k: 1000 }, [66, 10]),
];
