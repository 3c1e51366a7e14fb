import { describe, expect, it } from 'vitest';
import {
  abs,
  add,
  alibi,
  alibiSlopes,
  constant,
  distance,
  evaluateScore,
  MAX_SCORE_DEPTH,
  MAX_SCORE_NODES,
  max,
  mentions,
  min,
  mul,
  neg,
  type ScoreExpression,
  score,
  slope,
  softcap,
  sub,
  table,
  tanh,
  validateScore,
} from './expression.ts';

const at = { score: 3, distance: -4, slope: 0.25, table: 7 };

describe('a score expression', () => {
  it.each<[ScoreExpression, number]>([
    [score, 3],
    [distance, -4],
    [slope, 0.25],
    [table, 7],
    [add(score, table), 10],
    [sub(score, table), -4],
    [mul(score, distance), -12],
    [min(score, distance), -4],
    [max(score, distance), 3],
    [abs(distance), 4],
    [neg(score), -3],
    [tanh(constant(0.5)), Math.tanh(0.5)],
    [alibi, -1],
    [softcap(2), 2 * Math.tanh(1.5)],
  ])('%j is %d', (e, value) => {
    expect(evaluateScore(e, at)).toBeCloseTo(value, 12);
    expect(validateScore(JSON.parse(JSON.stringify(e)))).toEqual(e);
  });

  it('caps: small scores stay, large ones end at the cap', () => {
    const of = (s: number) => evaluateScore(softcap(50), { ...at, score: s });
    expect(of(0.01)).toBeCloseTo(0.01, 8);
    expect(of(1e9)).toBe(50);
    expect(of(-1e9)).toBe(-50);
  });

  it('says what it reads', () => {
    expect(mentions(add(score, alibi), 'slope')).toBe(true);
    expect(mentions(add(score, alibi), 'table', 'tanh')).toBe(false);
  });
});

describe("ALiBi's slopes", () => {
  it('are a geometric sequence for a power of two', () => {
    expect(alibiSlopes(8)).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((i) => 2 ** -i));
    expect(alibiSlopes(1)).toEqual([2 ** -8]);
  });

  it('take every other one of twice the power below for another number of heads', () => {
    const slopes = alibiSlopes(12);
    expect(slopes.slice(0, 8)).toEqual(alibiSlopes(8));
    expect(slopes.slice(8)).toEqual([1, 3, 5, 7].map((i) => 2 ** (-i / 2)));
    for (let heads = 1; heads <= 40; heads++) {
      expect(alibiSlopes(heads)).toHaveLength(heads);
      expect(new Set(alibiSlopes(heads)).size).toBe(heads);
    }
  });
});

describe('hostile JSON', () => {
  const chain = (levels: number): unknown => (levels <= 1 ? score : { op: 'neg', a: chain(levels - 1) });
  const tree = (levels: number): unknown =>
    levels <= 1 ? score : { op: 'add', a: tree(levels - 1), b: tree(levels - 1) };
  const loop: { op: string; a?: unknown } = { op: 'neg' };
  loop.a = loop;
  it.each<[string, unknown]>([
    ['null', null],
    ['a number', 3],
    ['an unknown operation', { op: 'eval', a: score }],
    ['a name of the prototype', { op: 'constructor' }],
    ['an operation that is no text', { op: { toString: () => 'score' } }],
    ['a missing operand', { op: 'add', a: score }],
    ['a constant that is text', { op: 'constant', value: '3' }],
    ['NaN', { op: 'constant', value: NaN }],
    ['a constant past float32', { op: 'constant', value: 1e39 }],
    ['too many levels', chain(MAX_SCORE_DEPTH + 1)],
    ['too many nodes', tree(8)],
    ['a loop', loop],
  ])('is refused: %s', (_, json) => {
    expect(() => validateScore(json)).toThrow(expect.objectContaining({ code: 'SCORE_INVALID' }));
  });

  it('passes at the bounds, and is rebuilt from known fields alone', () => {
    expect(validateScore(chain(MAX_SCORE_DEPTH))).toEqual(chain(MAX_SCORE_DEPTH));
    expect(2 ** 6 - 1).toBeLessThanOrEqual(MAX_SCORE_NODES);
    expect(validateScore(tree(6))).toEqual(tree(6));
    expect(validateScore({ op: 'score', more: 1 })).toEqual({ op: 'score' });
  });
});
