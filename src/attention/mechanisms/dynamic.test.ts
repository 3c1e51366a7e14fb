import { describe, expect, it } from 'vitest';
import { runReference } from '../../backend/reference/interpreter.ts';
import { stacked } from '../../program/ops/attention.ts';
import { selectBlocks } from '../../program/ops/select-blocks.ts';
import { trace } from '../../program/trace.ts';
import { symbol } from '../../tensor/dim.ts';
import { Random } from '../../tensor/random.ts';
import type { AttentionContext, Mechanism } from '../mechanism.ts';
import { parseOptions } from '../options.ts';
import dense from './dense.ts';
import dynamic from './dynamic.ts';

const [H, D, n] = [2, 8, 512];

/** Tokens in runs of 64 that belong to one of four topics; queries look for keys of their own. */
function topics(seed: number): Float32Array {
  const random = new Random(seed);
  const qkv = random.gaussians(3 * H * n * D, 0.4);
  for (let h = 0; h < H; h++) {
    const centres = Array.from({ length: 4 }, () => random.gaussians(D, 2.2));
    for (let i = 0; i < n; i++)
      for (const part of [0, 1])
        for (let d = 0; d < D; d++) qkv[((part * H + h) * n + i) * D + d] += centres[(i >> 6) % 4][d];
  }
  return qkv;
}

function run(
  mechanism: Mechanism,
  given: Record<string, unknown>,
  qkv: Float32Array,
  length = n,
): Float64Array {
  const options = parseOptions(mechanism.kind, mechanism.options, given);
  const program = trace(new Map(), (t) => {
    const value = t.input('qkv', 'float32', [3 * H, symbol('B'), symbol('N'), D]);
    const lengths = t.input('lengths', 'int32', [symbol('B')]);
    const layer = { index: 0, inputSize: H * D, heads: H, headSize: D, maxLength: n };
    const context = { t, layer, x: value, lengths, project: () => value } as unknown as AttentionContext;
    t.output(mechanism.lower(context, options as never));
  });
  return runReference(program, new Map(), { qkv, lengths: [length] }, { B: 1, N: n }, 256)[0];
}

const apart = (a: Float64Array, b: Float64Array): number =>
  a.reduce((sum, x, i) => sum + Math.abs(x - b[i]), 0) / b.reduce((sum, x) => sum + Math.abs(x), 0);

describe('dynamic', () => {
  it('is dense attention at mass 1, whatever the rows look like', () => {
    for (const qkv of [topics(1), new Random(2).gaussians(3 * H * n * D)])
      expect(apart(run(dynamic, { mass: 1 }, qkv), run(dense, {}, qkv))).toBeLessThan(1e-12);
  });

  it('loses less the more mass it keeps, and little where blocks have topics', () => {
    const qkv = topics(3);
    const want = run(dense, {}, qkv);
    const losses = [0.3, 0.6, 0.9, 0.99].map((mass) =>
      apart(run(dynamic, { mass, similarity: -1 }, qkv), want),
    );
    for (let i = 1; i < losses.length; i++) expect(losses[i]).toBeLessThanOrEqual(losses[i - 1]);
    expect(losses[2]).toBeLessThan(0.05);
  });

  it('keeps a part of the blocks where blocks have topics', () => {
    const qkv = topics(3);
    const program = trace(new Map(), (t) => {
      const value = t.input('qkv', 'float32', [3 * H, symbol('B'), symbol('N'), D]);
      const lengths = t.input('lengths', 'int32', [symbol('B')]);
      const choice = { mass: 0.9, topK: 0, similarity: 0.3 };
      const blocks = { query: 64, key: 64 };
      const sources = { ...stacked(value, H), lengths };
      t.output(
        selectBlocks(t, sources, { heads: H, headSize: D, scale: 1 / Math.sqrt(D), blocks, choice }).kept,
      );
    });
    const [kept] = runReference(program, new Map(), { qkv, lengths: [n] }, { B: 1, N: n }, 256);
    // Eight blocks of eight: two of them share a topic.
    for (const count of kept) expect(count).toBeLessThanOrEqual(24);
  });

  it('does not see what stands beyond the length', () => {
    const qkv = topics(4);
    const other = qkv.map((x, i) => (Math.floor(i / D) % n >= 300 ? x + 100 : x));
    const [a, b] = [run(dynamic, {}, qkv, 300), run(dynamic, {}, other, 300)];
    expect(a.subarray(0, 300 * H * D)).toEqual(b.subarray(0, 300 * H * D));
  });
});
