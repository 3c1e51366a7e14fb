import { mergeAttention } from '../../../src/program/ops/merge-attention.ts';
import { groupByResidue, ungroupByResidue } from '../../../src/program/ops/residue.ts';
import { blocksOf, mulDims, symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

const [B, N] = [symbol('B'), symbol('N')];
const plain = { finite: true, codes: false } as const;

function groupCase(n: number, stride: number, lengths: number[]): ConformanceCase {
  return {
    ...plain,
    op: 'groupByResidue',
    name: `${n} tokens by ${stride}, lengths ${lengths}`,
    build: (random) =>
      new CaseBuilder(random, { B: lengths.length, N: n })
        .data('x', random.gaussians(3 * lengths.length * n * 8))
        .data('lengths', Int32Array.from(lengths))
        .finish((t, input) => groupByResidue(t, input('x', [3, B, N, 8]), input('lengths', [B]), stride)),
  };
}

function ungroupCase(n: number, stride: number, width: number): ConformanceCase {
  return {
    ...plain,
    op: 'ungroupByResidue',
    name: `${n} tokens by ${stride}, ${width} columns`,
    build: (random) =>
      new CaseBuilder(random, { B: 2, N: n })
        .data('x', random.gaussians(2 * stride * Math.ceil(n / stride) * width))
        .finish((t, input) => [
          ungroupByResidue(t, input('x', [mulDims(B, stride), blocksOf('N', stride), width]), stride),
        ]),
  };
}

type Statistics = (random: { gaussians(n: number): Float32Array }, rows: number) => Float32Array;
const ordinary: Statistics = (random, rows) =>
  random.gaussians(2 * rows).map((x, i) => (i % 2 ? 1 + Math.abs(x) : 5 * x));
const empty: Statistics = (_random, rows) =>
  Float32Array.from({ length: 2 * rows }, (_, i) => (i % 2 ? 0 : -Infinity));

function mergeCase(name: string, D: number, first: Statistics, second: Statistics): ConformanceCase {
  const [H, n] = [3, 5];
  return {
    ...plain,
    op: 'mergeAttention',
    name,
    build: (random) =>
      new CaseBuilder(random, { B: 2, N: n })
        .data('oa', random.gaussians(2 * n * H * D))
        .data('sa', first(random, H * 2 * n))
        .data('ob', random.gaussians(2 * n * H * D))
        .data('sb', second(random, H * 2 * n))
        .finish((t, input) => {
          const part = (o: string, s: string) => [input(o, [B, N, H * D]), input(s, [H, B, N, 2])] as const;
          return [mergeAttention(t, part('oa', 'sa'), part('ob', 'sb'))];
        }),
  };
}

export const residueCases: ConformanceCase[] = [
  groupCase(17, 4, [17, 5, 0]),
  groupCase(16, 4, [16, 3]),
  groupCase(3, 7, [3, 2]),
  groupCase(9, 1, [9]),
  ungroupCase(17, 4, 6),
  ungroupCase(16, 4, 8),
  ungroupCase(3, 7, 5),
];

export const mergeAttentionCases: ConformanceCase[] = [
  mergeCase('ordinary', 8, ordinary, ordinary),
  mergeCase('ragged heads', 7, ordinary, ordinary),
  mergeCase('nothing in the first', 8, empty, ordinary),
  mergeCase('nothing in the second', 8, ordinary, empty),
  mergeCase('nothing in either', 8, empty, empty),
  mergeCase('scores far apart', 8, (r, n) => ordinary(r, n).map((x, i) => (i % 2 ? x : x + 1e4)), ordinary),
];
