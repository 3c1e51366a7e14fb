import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { memoryFiles } from '../../format/file-store.ts';
import { epochBatches } from './batches.ts';
import { distinct, sentences } from './sentences.ts';
import { fillTeacherCache, openTeacherCache } from './teacher-cache.ts';

describe('sentences', () => {
  const bounds = { least: 4, most: 60 };

  it('splits a text, tidies white space and leaves out what is too short or too long', () => {
    const text = `A cat  sat\non the mat. Hm. It was ${'very '.repeat(20)}warm. Dr. Who left at 3.15 p.m. today.`;
    expect([...sentences(text, bounds)]).toEqual(['A cat sat on the mat.', 'Who left at 3.15 p.m. today.']);
  });

  it('keeps the first of texts that differ in case alone', () => {
    expect([...distinct(['One', 'two', 'ONE', 'two', 'Two!'])]).toEqual(['One', 'two', 'Two!']);
  });
});

describe('batches of an epoch', () => {
  const options = { size: 8, seed: 3 };
  const lengths = { length: (text: number) => 3 + ((text * 7) % 40) };

  it('take each text at most once, all but what fills no batch, padded to the longest', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 900 }), fc.nat(5), (count, epoch) => {
        const texts = Uint32Array.from({ length: count }, (_, i) => 2 * i);
        const batches = epochBatches(lengths, texts, epoch, options);
        expect(batches).toHaveLength(Math.floor(count / options.size));
        const all = batches.flatMap((b) => b.texts);
        expect(new Set(all).size).toBe(all.length);
        expect(all.every((text) => texts.includes(text))).toBe(true);
        for (const { texts: members, length } of batches)
          expect(Math.max(...members.map(lengths.length))).toBe(length);
      }),
      { numRuns: 40 },
    );
  });

  it('are the same again, other ones in another epoch, and pad little', () => {
    const texts = Uint32Array.from({ length: 2000 }, (_, i) => i);
    const first = epochBatches(lengths, texts, 0, options);
    expect(epochBatches(lengths, texts, 0, options)).toEqual(first);
    expect(epochBatches(lengths, texts, 1, options)).not.toEqual(first);
    const padded = first.reduce((sum, { length }) => sum + length * options.size, 0);
    const needed = first.flatMap((b) => b.texts).reduce((sum, text) => sum + lengths.length(text), 0);
    expect(padded / needed).toBeLessThan(1.1);
  });
});

describe('the cache of a teacher', () => {
  const width = 4;
  const rowOf = (text: number) => Float32Array.from({ length: width }, (_, c) => (text % 50) + c / 4);
  const rows = (from: number, to: number) =>
    Promise.resolve(Array.from({ length: to - from }, (_, i) => rowOf(from + i)));

  it('goes on after an interruption, and computes anew what another teacher said or a kill cut short', async () => {
    const files = memoryFiles();
    const known = { key: 'a', texts: 5000, width };
    const options = { ...known, limitBytes: 1e6 };
    const stop = new AbortController();
    const onProgress = () => stop.abort(new Error('enough'));
    await expect(
      fillTeacherCache(files, { ...options, signal: stop.signal, onProgress }, rows),
    ).rejects.toThrow('enough');
    await expect(openTeacherCache(files, known)).rejects.toMatchObject({ code: 'CACHE_DAMAGED' });
    const asked: number[] = [];
    const asking = (from: number, to: number) => {
      asked.push(from);
      return rows(from, to);
    };
    await fillTeacherCache(files, options, asking);
    expect(asked).toEqual([2048, 4096]);
    const row = await openTeacherCache(files, known);
    for (const text of [0, 2047, 2048, 4999]) expect(row(text)).toEqual(rowOf(text));
    await expect(openTeacherCache(files, { ...known, key: 'b' })).rejects.toMatchObject({
      code: 'CACHE_DAMAGED',
    });
    await files.write((await files.names())[1], [new Uint8Array(7)]);
    await fillTeacherCache(files, options, asking);
    expect(asked).toEqual([2048, 4096, 2048]);
  });

  it('refuses what would pass its limit before the teacher runs', async () => {
    const options = { key: 'a', texts: 1000, width, limitBytes: 7999 };
    await expect(
      fillTeacherCache(memoryFiles(), options, () => Promise.reject(new Error('ran'))),
    ).rejects.toMatchObject({
      code: 'CACHE_LIMIT',
      fields: { needed: 8000 },
    });
  });
});
