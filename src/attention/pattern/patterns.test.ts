import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildBlockMask } from '../../program/mask/block-mask.ts';
import { evaluateMask, type MaskExpression, validateMask } from '../../program/mask/expression.ts';
import { drawMask } from './draw.ts';
import {
  bigBird,
  blockSparse,
  causal,
  document,
  fixed,
  global,
  longformer,
  padding,
  random,
  randomDensity,
  strided,
} from './patterns.ts';
import { local } from './window.ts';

const n = 96;
/** The keys that a query sees. */
const seen = (mask: MaskExpression, q: number, keys = n): number[] =>
  Array.from({ length: keys }, (_, k) => k).filter((k) => evaluateMask(mask, { h: 0, q, k, keys }));

describe('patterns', () => {
  it('keep what their papers say', () => {
    expect(seen(strided(10), 23)).toEqual([3, 13, 23, 33, 43, 53, 63, 73, 83, 93]);
    expect(seen(fixed(8, 2), 17, 32)).toEqual([6, 7, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 30, 31]);
    expect(seen(global(2), 40)).toEqual([0, 1]);
    expect(seen(global(2), 1)).toHaveLength(n);
    expect(seen(causal(), 3)).toEqual([0, 1, 2, 3]);
    expect(seen(padding(4), 50)).toEqual([0, 1, 2, 3]);
    expect(seen(document([0, 5, 9], 12), 6, 12)).toEqual([5, 6, 7, 8]);
    expect(seen(longformer({ window: 1, globals: 1 }), 50)).toEqual([0, 49, 50, 51]);
    const pairs = [
      [0, 2],
      [1, 0],
      [1, 1],
    ] as const;
    expect(seen(blockSparse({ block: 4, pairs }), 2, 16)).toEqual([8, 9, 10, 11]);
    expect(seen(blockSparse({ block: 4, pairs }), 5, 16)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(seen(blockSparse({ block: 4, pairs }), 14, 16)).toEqual([]);
  });

  it('draw random blocks by seed, in mean as many as asked for, before and after, whatever the padding', () => {
    const runs = (seed: number, q: number, keys = n) =>
      new Set(seen(random({ blocks: 3, block: 8, seed }), q, keys).map((k) => Math.floor(k / 8)));
    const size = { heads: 1, queries: 32_000, keys: 32_000, queryBlock: 32, keyBlock: 32 };
    const { kept } = buildBlockMask(random({ blocks: 3, block: 32, seed: 1 }), size);
    // 3000 draws, of which a few are the same.
    expect(kept).toBeGreaterThan(2900);
    expect(kept).toBeLessThanOrEqual(3000);
    for (const q of [0, 8, 40, 88]) {
      expect(runs(1, q).size).toBeGreaterThanOrEqual(1);
      const longer = [...runs(1, q, 4 * n)];
      expect(longer.filter((run) => run < n / 8)).toEqual([...runs(1, q)]);
      expect(Math.min(...longer)).toBeLessThanOrEqual(q / 8);
    }
    const later = Array.from({ length: 12 }, (_, run) => [...runs(1, 8 * run)].some((other) => other > run));
    expect(later).toContain(true);
    expect([...runs(1, 40)]).toEqual([...runs(1, 47)]);
    const all = (seed: number) => Array.from({ length: 12 }, (_, block) => [...runs(seed, 8 * block)].join());
    expect(all(1)).not.toEqual(all(2));
    // A block holds exactly its tokens.
    expect(seen(random({ blocks: 1, block: 8, seed: 4 }), 0)).toHaveLength(8);
  });

  it('keep about the density that is asked for, the diagonal always', () => {
    const mask = randomDensity({ density: 0.3, block: 32, seed: 7 });
    const built = buildBlockMask(mask, { heads: 1, queries: 3200, keys: 3200, queryBlock: 32, keyBlock: 32 });
    // 9,900 draws at 0.3: four standard errors are 0.018.
    expect(Math.abs((built.kept - 100) / 9900 - 0.3)).toBeLessThan(0.018);
    expect(built.tiles).toHaveLength(0);
    const none = randomDensity({ density: 0, block: 32, seed: 7 });
    expect(
      buildBlockMask(none, { heads: 1, queries: 320, keys: 320, queryBlock: 32, keyBlock: 32 }).kept,
    ).toBe(10);
  });

  it('pass the checks of a file', () => {
    for (const mask of [
      bigBird({ window: 3, globals: 2, random: 3, block: 8, seed: 1 }),
      document([0, 4], 9),
    ])
      expect(validateMask(JSON.parse(JSON.stringify(mask)))).toEqual(mask);
  });

  it('refuse blocks that no table holds', () => {
    expect(() => blockSparse({ block: 4, pairs: [[0, 300]] })).toThrow(
      expect.objectContaining({ code: 'MASK_INVALID' }),
    );
    expect(() => blockSparse({ block: 4, pairs: [[0, -1]] })).toThrow(
      expect.objectContaining({ code: 'MASK_INVALID' }),
    );
  });

  it('stay small at 16,384 tokens', () => {
    const size = { heads: 12, queries: 16_384, keys: 16_384, queryBlock: 64, keyBlock: 64 };
    const bird = buildBlockMask(bigBird({ window: 96, globals: 64, random: 3, block: 64, seed: 0 }), size);
    expect(bird.kept).toBeLessThan(256 * (5 + 1 + 3) + 256);
    expect(bird.kept).toBeGreaterThan(256 * 6);
    const long = buildBlockMask(longformer({ window: 128, globals: 1 }), size);
    expect(long.tiles.length / 128).toBeLessThan(12);
    expect(long.kept).toBeLessThan(256 * 8);
  });
});

describe('drawMask', () => {
  it('draws a small mask cell by cell', () => {
    const { text, svg, kept } = drawMask(local(20, 20), { queries: 128, keys: 128, block: 32 });
    expect(text).toBe(['▒▒··', '▒▒▒·', '·▒▒▒', '··▒▒'].join('\n'));
    expect(kept).toBe(10 / 16);
    expect(svg).toContain('<title>Attention mask: 128 queries by 128 keys, cells of 32 tokens</title>');
    expect(svg.match(/<rect/g)).toHaveLength(10);
  });

  it('keeps the picture small whatever the length', () => {
    const { text } = drawMask(causal(), { queries: 16_384, keys: 16_384 });
    const lines = text.split('\n');
    expect(lines).toHaveLength(64);
    expect(lines[10]).toBe(`${'█'.repeat(10)}▒${'·'.repeat(53)}`);
  });

  it('counts what brute force counts', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 40 }), (length, stride) => {
        const { kept } = drawMask(strided(stride), { queries: length, keys: length, block: 32 });
        const blocks = Math.ceil(length / 32);
        let count = 0;
        for (let a = 0; a < blocks; a++)
          for (let b = 0; b < blocks; b++) {
            let any = false;
            for (let q = 32 * a; q < Math.min(length, 32 * a + 32); q++)
              for (let k = 32 * b; k < Math.min(length, 32 * b + 32); k++) any ||= (k - q) % stride === 0;
            if (any) count++;
          }
        return Math.abs(kept - count / blocks ** 2) < 1e-12;
      }),
      { numRuns: 40 },
    );
  });
});
