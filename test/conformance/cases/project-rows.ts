import { padHead } from '../../../src/program/ops/linear.ts';
import { projectRows } from '../../../src/program/ops/project-rows.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface ProjectOptions {
  N?: number;
  /** Heads of the value, those before the first one read, and those read. */
  heads?: number;
  from?: number;
  D?: number;
  sets?: number;
  r?: number;
  /** Columns of the matrix, by default N. */
  columns?: number;
  lengths?: number[];
  factor?: number;
  codec?: 'float32' | 'float16';
}

function projectCase(name: string, options: ProjectOptions): ConformanceCase {
  const { N = 40, heads = 3, from = 0, D = 32, sets = 1, r = 16, columns = N, factor = 1 } = options;
  const { lengths = [N], codec = 'float32' } = options;
  const pitch = padHead(D);
  return {
    op: 'projectRows',
    name,
    finite: true,
    codes: false,
    build(random) {
      const B = lengths.length;
      const x = random
        .gaussians((from + heads) * B * N * pitch)
        .map((v, i) => (i % pitch >= D ? 0 : v * factor));
      return new CaseBuilder(random, { B, N })
        .data('x', x)
        .data('lengths', Int32Array.from(lengths))
        .weight('e', codec, [sets, r, columns])
        .finish((t, input) => {
          const value = input('x', [from + heads, symbol('B'), symbol('N'), pitch]);
          const { rows } = projectRows(
            t,
            { value, from },
            heads,
            t.parameter('e'),
            input('lengths', [symbol('B')]),
          );
          return [rows];
        });
    },
  };
}

export const projectRowsCases: ConformanceCase[] = [
  projectCase('ordinary', { N: 70, r: 64 }),
  ...[1, 3, 8, 20, 64].map((D) => projectCase(`heads of ${D}`, { D, N: 21 })),
  ...[1, 2, 3, 4, 5, 6, 7, 13].map((r) => projectCase(`${r} rows`, { r, D: 8 })),
  ...[1, 2, 7, 255, 256, 257, 520].map((N) => projectCase(`${N} tokens`, { N, D: 8, r: 5 })),
  projectCase('lengths shorter than N, and none', { N: 50, lengths: [50, 49, 1, 0, 17] }),
  projectCase('a matrix wider than the sequence', { N: 33, columns: 128, lengths: [33, 5] }),
  projectCase('one set a head', { heads: 4, sets: 4, lengths: [40, 11] }),
  projectCase('two sets over six heads', { heads: 6, sets: 2, lengths: [40, 11] }),
  projectCase('heads further on in the value', { heads: 2, from: 3, lengths: [40, 8] }),
  projectCase('a float16 matrix', { codec: 'float16' }),
  projectCase('rows of 1e4', { factor: 1e4 }),
  projectCase('denormal rows', { factor: 1e-40 }),
  projectCase('rows of zero', { factor: 0 }),
];
