import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addDims,
  blocksOf,
  type Dim,
  dim,
  equalDims,
  equalShapes,
  evaluateDim,
  formatDim,
  formatShape,
  mulDims,
  symbol,
} from './dim.ts';

const dims = fc.letrec<{ dim: Dim }>((tie) => ({
  dim: fc.oneof(
    { maxDepth: 3 },
    fc.integer({ min: -9, max: 9 }).map(dim),
    fc.constantFrom('B' as const, 'N' as const, 'P' as const).map(symbol),
    fc.tuple(fc.constantFrom(addDims, mulDims), tie('dim'), tie('dim')).map(([f, a, b]) => f(a, b)),
  ),
})).dim;
const bound = fc.record({ B: fc.nat(9), N: fc.nat(99), P: fc.nat(9) });

describe('dim', () => {
  it('adds and multiplies as numbers do', () => {
    fc.assert(
      fc.property(dims, dims, bound, (a, b, bindings) => {
        const [x, y] = [evaluateDim(a, bindings), evaluateDim(b, bindings)];
        expect(evaluateDim(addDims(a, b), bindings)).toBe(x + y);
        expect(evaluateDim(mulDims(a, b), bindings) - x * y).toBe(0);
      }),
    );
  });

  it('is equal whatever the order it was built in', () => {
    fc.assert(
      fc.property(dims, dims, dims, (a, b, c) => {
        expect(equalDims(addDims(a, b), addDims(b, a))).toBe(true);
        expect(equalDims(mulDims(a, b), mulDims(b, a))).toBe(true);
        expect(equalDims(mulDims(a, addDims(b, c)), addDims(mulDims(a, b), mulDims(a, c)))).toBe(true);
        expect(equalDims(a, addDims(a, 1))).toBe(false);
      }),
    );
  });

  it('drops what cancels', () => {
    const nothing = addDims(symbol('N'), mulDims(-1, symbol('N')));
    expect(equalDims(nothing, 0)).toBe(true);
    expect(formatDim(nothing)).toBe('0');
  });

  it('reads as a polynomial', () => {
    const [B, N] = [symbol('B'), symbol('N')];
    expect(formatShape([mulDims(B, N), addDims(mulDims(3, N), 1), 64])).toBe('[B·N, 3·N + 1, 64]');
    expect(equalShapes([B, N], [B, N])).toBe(true);
    expect(equalShapes([B, N], [N, B])).toBe(false);
    expect(equalShapes([B], [B, 1])).toBe(false);
  });

  it('names the symbol that has no value', () => {
    expect(() => evaluateDim(symbol('N'), { B: 2 })).toThrow(
      expect.objectContaining({ code: 'DIM_UNBOUND', message: expect.stringContaining('N') }),
    );
  });

  it('counts blocks that cover a symbol', () => {
    const blocks = mulDims(blocksOf('N', 64), mulDims(symbol('B'), 3));
    expect(formatDim(blocks)).toBe('3·B·⌈N/64⌉');
    for (const [N, count] of [
      [0, 0],
      [1, 1],
      [64, 1],
      [65, 2],
    ])
      expect(evaluateDim(blocks, { B: 2, N })).toBe(6 * count);
    expect(equalDims(blocksOf('N', 1), symbol('N'))).toBe(true);
    expect(equalDims(blocksOf('N', 2), blocksOf('N', 3))).toBe(false);
  });
});
