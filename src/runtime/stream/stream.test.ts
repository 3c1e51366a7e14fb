import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { applyRecipe } from '../../compress/index.ts';
import { loadModel } from '../index.ts';
import type { StreamResult, TextModel } from '../types.ts';
import { roomFor } from './layer.ts';
import { RowStore } from './rows.ts';

const VOCABULARY = madeEncoder().config.vocabularySize;
/** Token ids that look random and are the same each time. */
const tokens = (length: number, seed = 1): number[] =>
  Array.from({ length }, (_, i) => ((Math.imul(i + 1, 2654435761) >>> 8) * seed) % VOCABULARY);
const replaced = (ids: readonly number[], at: number): number[] => ids.with(at, (ids[at] + 1) % VOCABULARY);
const apart = (a: Float32Array, b: Float32Array): number => Math.hypot(...a.map((x, i) => x - b[i]));
const window = [{ step: 'attention', kind: 'local', left: 2, right: 1 }];

async function fresh(model: TextModel, ids: readonly number[]): Promise<Float32Array> {
  const [row] = await model.run([ids]);
  return row;
}

describe('what a stream recomputes', () => {
  it('is every row at first, none of an unchanged text, and what it says', async () => {
    const model = await loadModel(madeEncoder());
    const stream = await model.stream();
    const first = await stream.push('a small model');
    expect(first.recomputed).toMatchObject({ rows: 20, ofRows: 20, multiplyAdds: 1 });
    expect(first.recomputed.stateBytes).toBeGreaterThan(0);
    expect(first.embedding).toEqual((await model.embed(['a small model']))[0]);
    const again = await stream.push('a small model');
    expect(again.recomputed).toMatchObject({ rows: 0, ofRows: 20, multiplyAdds: 0 });
    expect(again.recomputed.perLayer).toEqual([0, 1].map(() => ({ projected: 0, attended: 0, updated: 0 })));
    expect(again.embedding).toEqual(first.embedding);
    model.dispose();
  });

  it.each([5, 20, 33])('is what token %i reaches through windows, layer by layer', async (at) => {
    const model = await loadModel(await applyRecipe(madeEncoder(), window as never));
    const stream = await model.stream();
    const ids = tokens(40);
    await stream.push(ids);
    const { embedding, recomputed } = await stream.push(replaced(ids, at));
    // Queries from p − 1 to p + 2 see token p; the next layer adds as many again.
    expect(recomputed.perLayer).toEqual([
      { projected: 1, attended: 40, updated: 4 },
      { projected: 4, attended: 40, updated: 7 },
    ]);
    expect(recomputed.rows).toBe(16);
    // Products: C² = 1024 each for query, key, value and output, 2 · 2048 for the feed-forward; 7 rows run as 8.
    const work = 1 * 3 * 1024 + 4 * 5120 + 4 * 3 * 1024 + 8 * 5120;
    expect(recomputed.multiplyAdds).toBeCloseTo(work / (2 * 40 * 8192), 12);
    expect(embedding).toEqual(await fresh(model, replaced(ids, at)));
    model.dispose();
  });

  it('is only what a text gained, beside what that reaches', async () => {
    const model = await loadModel(await applyRecipe(madeEncoder(), window as never));
    const stream = await model.stream();
    const ids = tokens(41);
    await stream.push(ids.slice(0, 40));
    const { recomputed } = await stream.push(ids);
    expect(recomputed.perLayer.map((l) => [l.projected, l.updated])).toEqual([
      [1, 2],
      [2, 3],
    ]);
    const shorter = await stream.push(ids.slice(0, 39));
    expect(shorter.recomputed.perLayer.map((l) => [l.projected, l.updated])).toEqual([
      [0, 1],
      [1, 2],
    ]);
    expect(shorter.embedding).toEqual(await fresh(model, ids.slice(0, 39)));
    model.dispose();
  });
});

describe('a threshold above 0', () => {
  /** A text whose tokens change one after another. */
  const walk = Array.from({ length: 24 }, (_, step) =>
    Array.from({ length: step }, (_, i) => (i * 7) % 30).reduce(replaced, tokens(30)),
  );
  async function follow(threshold: number, refresh = 0) {
    const model = await loadModel(madeEncoder());
    const stream = await model.stream({ threshold, refresh });
    const results: StreamResult[] = [];
    for (const ids of walk) results.push(await stream.push(ids));
    const errors: number[] = [];
    for (const [i, ids] of walk.entries()) errors.push(apart(results[i].embedding!, await fresh(model, ids)));
    model.dispose();
    const rows = results.slice(1).reduce((n, r) => n + r.recomputed.rows, 0);
    return { errors, rows, worst: Math.max(...errors) };
  }

  it('computes fewer rows, and the more it allows the fewer; the error stays small', async () => {
    const [exact, small, large] = [await follow(0), await follow(0.02), await follow(0.1)];
    expect(exact.worst).toBe(0);
    expect(small.worst).toBeGreaterThan(0);
    expect(small.worst).toBeLessThan(0.05);
    expect(large.worst).toBeLessThan(0.25);
    expect(small.rows).toBeLessThan(exact.rows);
    expect(large.rows).toBeLessThan(small.rows / 2);
  });

  it('drifts no further than a refresh ago: every n-th push is exact', async () => {
    const { errors } = await follow(0.1, 5);
    errors.forEach((error, i) => {
      if (i % 5 === 0) expect(error, `push ${i}`).toBe(0);
    });
    const between = errors.filter((_, i) => i % 5);
    expect(Math.max(...between)).toBeGreaterThan(0);
    expect(Math.max(...between)).toBeLessThan(0.25);
  });
});

describe('a stream', () => {
  it('gives labels where the model classifies, in threads too', async () => {
    const head = { kind: 'classification', labels: ['no', 'yes'], poolerActivation: 'tanh' } as const;
    const model = await loadModel(madeEncoder(head), { threads: 2 });
    const stream = await model.stream();
    for (const text of ['a small model', 'a quick model', 'a quick brown model']) {
      const { classification, embedding } = await stream.push(text);
      expect(embedding).toBeNull();
      expect(classification).toEqual((await model.classify([text]))[0]);
    }
    model.dispose();
  });

  it('queues with other calls and with other streams, each with a text of its own', async () => {
    const model = await loadModel(madeEncoder());
    const [one, two] = [await model.stream(), await model.stream()];
    const texts = ['a small model', 'quick brown fox', 'runs in the page and node alike', 'a', 'a fox'];
    const want = await model.embed(texts);
    const got = await Promise.all(
      texts.flatMap((text, i) => [
        one.push(text).then((r) => r.embedding),
        model.embed([text]).then(([row]) => row),
        two.push(texts[texts.length - 1 - i]).then((r) => r.embedding),
      ]),
    );
    texts.forEach((_, i) => {
      expect(got[3 * i]).toEqual(want[i]);
      expect(got[3 * i + 1]).toEqual(want[i]);
      expect(got[3 * i + 2]).toEqual(want[texts.length - 1 - i]);
    });
    model.dispose();
  });

  it('takes pairs, with their token types', async () => {
    const model = await loadModel(madeEncoder());
    const stream = await model.stream();
    await stream.push('quick brown fox');
    const { embedding } = await stream.push(['quick', 'brown fox']);
    expect(embedding).toEqual((await model.embed([['quick', 'brown fox']]))[0]);
    model.dispose();
  });

  it('computes every row after a reset, in order with pushes', async () => {
    const model = await loadModel(madeEncoder());
    const stream = await model.stream();
    const [a, , b, c] = await Promise.all([
      stream.push(tokens(9)),
      stream.reset(),
      stream.push(tokens(9)),
      stream.push(tokens(9)),
    ]);
    expect([a, b, c].map((r) => r.recomputed.multiplyAdds)).toEqual([1, 1, 0]);
    expect(b.embedding).toEqual(a.embedding);
    model.dispose();
  });

  it('stops at an abort, and is exact after it', async () => {
    const model = await loadModel(madeEncoder());
    const stream = await model.stream();
    await stream.push(tokens(20));
    const controller = new AbortController();
    const running = stream.push(tokens(22, 3), { signal: controller.signal });
    setTimeout(() => controller.abort(new Error('enough')));
    await expect(running).rejects.toThrow('enough');
    await expect(stream.push(tokens(20), { signal: controller.signal })).rejects.toThrow('enough');
    const { embedding, recomputed } = await stream.push(tokens(22, 3));
    expect(recomputed.multiplyAdds).toBe(1);
    expect(embedding).toEqual(await fresh(model, tokens(22, 3)));
    model.dispose();
  });

  it('says what it cannot take', async () => {
    const model = await loadModel(madeEncoder());
    await expect(model.stream({ threshold: -1 })).rejects.toMatchObject({ code: 'STREAM_OPTION' });
    await expect(model.stream({ threshold: Number.NaN })).rejects.toMatchObject({ code: 'STREAM_OPTION' });
    await expect(model.stream({ refresh: 1.5 })).rejects.toMatchObject({ code: 'STREAM_OPTION' });
    const stream = await model.stream();
    await expect(stream.push([])).rejects.toMatchObject({ code: 'INPUT_EMPTY' });
    await expect(stream.push([VOCABULARY])).rejects.toMatchObject({ code: 'INPUT_TOKEN' });
    await stream.push([1, 2, 3]);
    stream.dispose();
    await expect(stream.push([1])).rejects.toMatchObject({ code: 'DISPOSED' });
    await expect(stream.reset()).rejects.toMatchObject({ code: 'DISPOSED' });
    const other = await model.stream();
    model.dispose();
    await expect(other.push([1])).rejects.toMatchObject({ code: 'DISPOSED' });
    const masked = await loadModel(madeEncoder({ kind: 'maskedToken', activation: 'gelu' }));
    await expect(masked.stream()).rejects.toMatchObject({ code: 'WRONG_HEAD' });
    masked.dispose();
  });

  it('needs no more WebAssembly memory than a fresh run', async () => {
    const model = await loadModel(madeEncoder());
    await fresh(model, tokens(60));
    const held = await model.memoryBytes();
    const stream = await model.stream();
    await stream.push(tokens(60));
    expect(await model.memoryBytes()).toBe(held);
    model.dispose();
  });
});

describe('roomFor', () => {
  it('is at least the count, at most half as much again, and few sizes', () => {
    const sizes = new Set<number>();
    for (let count = 1; count <= 500; count++) {
      const room = roomFor(count, 500);
      sizes.add(room);
      expect(room).toBeGreaterThanOrEqual(count);
      expect(room).toBeLessThanOrEqual(Math.min(500, Math.max(count, 1.5 * count)));
    }
    expect(sizes.size).toBeLessThanOrEqual(18);
  });
});

describe('RowStore', () => {
  it('measures a change as a share of the reference over all heads, and bits at 0', () => {
    const [now, was] = [new RowStore(2, 2), new RowStore(2, 2)];
    for (const store of [now, was]) store.reserve(3);
    was.copyFrom(Float32Array.of(3, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0), 3); // row 0: norm 5
    now.copyFrom(Float32Array.of(3, 0.5, 0, 0, -0, 0, 4, 0, 0, 0, 0, Number.NaN), 3);
    expect(now.differs(was, 0, 0.11)).toBe(false);
    expect(now.differs(was, 0, 0.09)).toBe(true);
    expect(now.differs(was, 1, 0)).toBe(false);
    expect(now.differs(was, 2, 0)).toBe(true);
    expect(now.differs(was, 2, 100)).toBe(true);
  });

  it('keeps rows when it grows, and moves them in any order of runs', () => {
    const store = new RowStore(2, 1);
    store.reserve(4);
    store.copyFrom(Float32Array.of(0, 1, 2, 3, 10, 11, 12, 13), 4);
    store.reserve(100);
    const into = new Float32Array(8).fill(9);
    store.gather({ list: Int32Array.of(0, 2, 3), count: 3 }, into, 4);
    expect([...into]).toEqual([0, 2, 3, 0, 10, 12, 13, 0]);
    store.scatter({ list: Int32Array.of(1, 50), count: 2 }, Float32Array.of(5, 6, 15, 16), 2);
    const all = new Float32Array(2 * 51);
    store.copyTo(all, 51);
    expect([all[0], all[1], all[2], all[50], all[51 + 1], all[51 + 50]]).toEqual([0, 5, 2, 6, 15, 16]);
  });
});
