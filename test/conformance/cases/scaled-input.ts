import { linear } from '../../../src/program/ops/linear.ts';
import { quantizeRows } from '../../../src/program/ops/quantize-rows.ts';
import type { Codec } from '../../../src/tensor/codec.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import type { Random } from '../../../src/tensor/random.ts';
import { CaseBuilder, type ConformanceCase, type Fill, filled } from '../case.ts';

/** Scales of very different size, as smoothing gives them. */
const scales = (random: Random, K: number): Float32Array =>
  Float32Array.from({ length: K }, () => 2 ** (6 * random.uniform() - 3));

interface Options {
  N?: number;
  K?: number;
  x?: Fill;
  range?: readonly [number, number];
}

const quantizeCase = (name: string, { N = 3, K = 20, x = 'gaussian', range }: Options): ConformanceCase => ({
  op: 'quantizeRows',
  name: `scaled columns: ${name}`,
  finite: true,
  codes: true,
  build(random) {
    const builder = new CaseBuilder(random, { B: 2, N })
      .data('x', filled(random, 2 * N * K, x, K))
      .weight('scale', 'float32', [K], scales(random, K));
    if (range) builder.weight('range', 'float32', [2], Float32Array.from(range));
    return builder.finish((t, input) => [
      ...quantizeRows(
        t,
        input('x', [symbol('B'), symbol('N'), K]),
        range && t.parameter('range'),
        t.parameter('scale'),
      ),
    ]);
  },
});

export const scaledRowsCases: ConformanceCase[] = [
  ...[1, 3, 15, 16, 17, 33, 64].map((K) => quantizeCase(`${K} columns`, { K })),
  quantizeCase('in a range found beforehand', { K: 37, range: [-1.5, 2] }),
  quantizeCase('outside a range', { range: [-1e-3, 2e-3], x: 'large' }),
  ...(['zero', 'denormal', 'large negative', 'constant'] as const).map((x) => quantizeCase(x, { x })),
];

const linearCase = (codecs: readonly Codec[], { N = 5, K = 96, x = 'gaussian', range }: Options = {}) => {
  const C = 24;
  return {
    op: 'linear',
    name: `${codecs}: ${N} rows of ${K} scaled columns${range ? ' in a range' : ''}`,
    finite: true,
    codes: false,
    build(random) {
      const builder = new CaseBuilder(random, { B: 1, N }).data('x', filled(random, N * K, x, K));
      const by = scales(random, K);
      for (const [p, codec] of codecs.entries()) {
        builder.weight(`w${p}.weight`, codec, [C, K]);
        builder.weight(`w${p}.bias`, 'float32', [C], random.gaussians(C, 0.5));
        builder.weight(`w${p}.inputScale`, 'float32', [K], by);
        if (range) builder.weight(`w${p}.inputRange`, 'float32', [2], Float32Array.from(range));
      }
      const parts = (what: string) => codecs.map((_, p) => `w${p}.${what}`);
      return builder.finish((t, given) => [
        linear(
          t,
          given('x', [symbol('B'), symbol('N'), K]),
          parts('weight').map((name) => t.parameter(name)),
          parts('bias').map((name) => t.parameter(name)),
        ),
      ]);
    },
  } satisfies ConformanceCase;
};

export const scaledLinearCases: ConformanceCase[] = [
  linearCase(['int8']),
  linearCase(['int8', 'int8', 'int8'], { N: 1 }),
  linearCase(['int4', 'int8'], { K: 33 }),
  linearCase(['ternary'], { N: 13 }),
  linearCase(['int8'], { range: [-2, 2] }),
];
