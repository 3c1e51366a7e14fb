import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BlockMask, type BlockMaskSize, buildBlockMask } from './block-mask.ts';
import {
  add,
  and,
  constant,
  div,
  eq,
  evaluateInteger,
  evaluateMask,
  ge,
  hash,
  head,
  type IntegerExpression,
  isRelative,
  key,
  keys,
  le,
  lookup,
  type MaskExpression,
  mod,
  mul,
  not,
  or,
  query,
  sub,
  usesHead,
  validateMask,
} from './expression.ts';
import { classify, rangeOf } from './interval.ts';

const { integer } = fc.letrec<{ integer: IntegerExpression }>((tie) => ({
  integer: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.constantFrom<IntegerExpression>(query, key, head, keys, sub(key, query)),
    fc.integer({ min: -40, max: 80 }).map(constant),
    fc
      .tuple(fc.constantFrom(add, sub, mul, mod, div, hash), tie('integer'), tie('integer'))
      .map(([f, a, b]) => f(a, b)),
    fc
      .tuple(fc.array(fc.integer({ min: -9, max: 9 }), { maxLength: 70 }), tie('integer'))
      .map(([table, a]) => lookup(table, a)),
  ),
}));
const { mask } = fc.letrec<{ mask: MaskExpression }>((tie) => ({
  mask: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.tuple(fc.constantFrom(le, ge, eq), integer, integer).map(([f, a, b]) => f(a, b)),
    fc.tuple(fc.constantFrom(and, or), tie('mask'), tie('mask')).map(([f, a, b]) => f(a, b)),
    tie('mask').map(not),
  ),
}));

/** What a kernel sees: whether the BlockMask keeps a pair, and how it says so. */
function entryOf(m: BlockMask, size: BlockMaskSize, h: number, qb: number, kb: number): number | null {
  const list = (m.heads === 1 ? 0 : h) * Math.ceil(size.queries / size.queryBlock) + qb;
  for (let e = m.starts[list]; e < m.ends[list]; e++)
    if (m.entries[2 * e] === kb) return m.entries[2 * e + 1];
  return null;
}

function expectSame(e: MaskExpression, size: BlockMaskSize): BlockMask {
  const m = buildBlockMask(e, size);
  const words = (size.queryBlock * size.keyBlock) / 32;
  let kept = 0;
  for (let h = 0; h < (usesHead(e) ? size.heads : 1); h++)
    for (let qb = 0; qb * size.queryBlock < size.queries; qb++)
      for (let kb = 0; kb * size.keyBlock < size.keys; kb++) {
        const entry = entryOf(m, size, h, qb, kb);
        let [any, all] = [false, true];
        for (let q = 0; q < size.queryBlock; q++)
          for (let k = 0; k < size.keyBlock; k++) {
            const at = { h, q: qb * size.queryBlock + q, k: kb * size.keyBlock + k, keys: size.keys };
            const inside = at.q < size.queries && at.k < size.keys;
            const wanted = inside && evaluateMask(e, at);
            any ||= wanted;
            if (inside) all &&= wanted;
            if (entry !== null && entry >= 0) {
              const bit = q * size.keyBlock + k;
              const got = (m.tiles[entry * words + (bit >> 5)] >>> (bit & 31)) & 1;
              if (!!got !== wanted) throw new Error(`tile differs at ${JSON.stringify(at)}`);
            }
          }
        expect(entry === null ? 'empty' : entry < 0 ? 'full' : 'partial').toBe(
          !any ? 'empty' : all ? 'full' : 'partial',
        );
        if (any) kept++;
      }
  expect(m.kept).toBe(kept);
  for (let i = 0; i < m.starts.length; i++)
    for (let x = m.starts[i] + 1; x < m.ends[i]; x++)
      expect(m.entries[2 * x]).toBeGreaterThan(m.entries[2 * x - 2]);
  return m;
}

const local = (left: number, right: number) =>
  and(ge(sub(key, query), constant(-left)), le(sub(key, query), constant(right)));

describe('interval arithmetic', () => {
  it('bounds every value and never misjudges a rectangle', () => {
    const span = fc.tuple(fc.nat(60), fc.nat(12)).map(([low, n]) => ({ low, high: low + n }));
    fc.assert(
      fc.property(integer, mask, span, span, fc.nat(3), (e, m, q, k, h) => {
        const ranges = { query: q, key: k, head: h, keys: 70 };
        const { low, high } = rangeOf(e, ranges);
        const kind = classify(m, ranges);
        for (let qi = q.low; qi <= q.high; qi++)
          for (let ki = k.low; ki <= k.high; ki++) {
            const at = { h, q: qi, k: ki, keys: 70 };
            const value = evaluateInteger(e, at);
            if (value < low || value > high) throw new Error(`${value} outside [${low}, ${high}]`);
            const kept = evaluateMask(m, at);
            if ((kind === 'full' && !kept) || (kind === 'empty' && kept)) throw new Error(`not ${kind}`);
          }
      }),
      { numRuns: 400 },
    );
  });

  it('concludes nothing from numbers that are not exact', () => {
    const big = constant(Number.MAX_SAFE_INTEGER);
    const overflowing = mul(mul(big, big), mul(big, big));
    const ranges = { query: { low: 0, high: 3 }, key: { low: 0, high: 3 }, head: 0 };
    expect(classify(le(overflowing, constant(0)), ranges)).toBe('partial');
    expect(classify(eq(mod(overflowing, constant(2)), constant(5)), ranges)).toBe('partial');
  });
});

describe('buildBlockMask', () => {
  it('agrees with brute force on random expressions and ragged sizes', () => {
    fc.assert(
      fc.property(
        mask,
        fc.nat(90),
        fc.nat(100),
        fc.constantFrom(4, 16, 32),
        (e, queries, keys, queryBlock) => {
          expectSame(e, { heads: 2, queries, keys, queryBlock, keyBlock: 32 });
        },
      ),
      { numRuns: 150 },
    );
  });

  it('shares one list among all query blocks without a mask', () => {
    const m = buildBlockMask(null, { heads: 12, queries: 1000, keys: 1000, queryBlock: 64, keyBlock: 64 });
    expect(m).toMatchObject({ heads: 1, kept: 256 });
    expect(m.entries).toHaveLength(32);
    expect([...m.starts]).toEqual(Array(16).fill(0));
    expect([...m.ends]).toEqual(Array(16).fill(16));
    expect(m.tiles).toHaveLength(0);
  });

  it('gives the lists of each head only where heads differ', () => {
    const size = { heads: 3, queries: 130, keys: 130, queryBlock: 64, keyBlock: 64 };
    expect(expectSame(le(key, query), size).heads).toBe(1);
    expect(expectSame(le(sub(query, key), mul(head, constant(40))), size).heads).toBe(3);
  });

  it('agrees with brute force on strided, block-diagonal and global patterns', () => {
    const size = { heads: 1, queries: 257, keys: 200, queryBlock: 64, keyBlock: 64 };
    expectSame(eq(mod(sub(key, query), constant(64)), constant(0)), size);
    expectSame(eq(div(query, constant(64)), div(key, constant(64))), size);
    expectSame(or(local(10, 10), or(le(key, constant(1)), le(query, constant(1)))), size);
    expectSame(not(ge(key, constant(0))), size);
  });

  it('builds few tiles for a local window of 16,384 tokens', () => {
    const n = 16_384;
    const m = buildBlockMask(local(128, 128), {
      heads: 8,
      queries: n,
      keys: n,
      queryBlock: 64,
      keyBlock: 64,
    });
    expect(m.kept).toBe(256 * 5 - 6);
    expect(m.tiles.length / 128).toBe(2);
    const ragged = buildBlockMask(local(100, 30), {
      heads: 8,
      queries: n - 7,
      keys: n - 7,
      queryBlock: 64,
      keyBlock: 64,
    });
    expect(ragged.tiles.length / 128).toBeLessThanOrEqual(8);
  });

  it('holds no state that grows with n² for a window of a million tokens', () => {
    const n = 1 << 20;
    const m = buildBlockMask(local(64, 64), { heads: 1, queries: n, keys: n, queryBlock: 64, keyBlock: 64 });
    expect(m.kept).toBe((n / 64) * 3 - 2);
  });

  it('rejects a block that does not fill its words', () => {
    expect(() =>
      buildBlockMask(null, { heads: 1, queries: 8, keys: 8, queryBlock: 8, keyBlock: 20 }),
    ).toThrow(expect.objectContaining({ code: 'MASK_BLOCK_SIZE' }));
  });
});

describe('expressions', () => {
  it('detects what depends on the difference alone', () => {
    expect(isRelative(local(3, 4))).toBe(true);
    expect(isRelative(eq(mod(sub(query, key), add(head, constant(2))), constant(0)))).toBe(true);
    expect(isRelative(le(key, query))).toBe(false);
    expect(isRelative(le(sub(key, query), query))).toBe(false);
  });

  it('survives JSON and drops unknown fields', () => {
    fc.assert(
      fc.property(mask, (e) => {
        expect(validateMask(JSON.parse(JSON.stringify(e)))).toEqual(e);
      }),
    );
    expect(validateMask({ op: 'le', a: { op: 'key', x: 1 }, b: { op: 'query' }, y: 2 })).toEqual(
      le(key, query),
    );
  });

  it.each([
    null,
    3,
    { op: 'key' },
    { op: 'le', a: { op: 'key' } },
    { op: 'le', a: { op: 'constant', value: 0.5 }, b: { op: 'key' } },
    { op: 'le', a: { op: 'constant', value: 2 ** 60 }, b: { op: 'key' } },
    { op: 'le', a: le(key, query), b: key },
    { op: 'and', a: key, b: key },
    { op: 'le', a: { op: 'lookup', table: [0.5], a: key }, b: key },
    { op: 'le', a: { op: 'lookup', table: 'no', a: key }, b: key },
    { op: 'toString', a: key, b: key },
  ])('rejects %j', (json) => {
    expect(() => validateMask(json)).toThrow(expect.objectContaining({ code: 'MASK_INVALID' }));
  });

  it('rejects what is too deep or too large', () => {
    let deep: MaskExpression = le(key, query);
    for (let i = 0; i < 62; i++) deep = not(deep);
    expect(validateMask(deep)).toEqual(deep);
    expect(() => validateMask(not(deep))).toThrow('[mask] expression nested too deeply');
    let wide: MaskExpression = le(key, query);
    for (let i = 0; i < 8; i++) wide = and(wide, wide);
    expect(() => validateMask(wide)).toThrow('[mask] expression too large');
    const table = lookup(new Array(40_000).fill(1), key);
    expect(validateMask(le(table, key))).toEqual(le(table, key));
    expect(() => validateMask(le(table, table))).toThrow('[mask] bad table');
  });
});
