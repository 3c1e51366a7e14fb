import { describe, expect, it } from 'vitest';
import type { CardData } from '../optimize/result.ts';
import { interleave, type Setting } from './commands/bench.ts';
import { outcome } from './commands/optimize.ts';
import { createProgress } from './progress.ts';
import { factList, textTable } from './table.ts';
import { asPairs, readTexts } from './texts.ts';
import { lengthsFor, wholeNumbers } from './values.ts';

const stream = (...chunks: (string | Uint8Array)[]) => ({
  async *[Symbol.asyncIterator]() {
    yield* chunks;
  },
});
const quiet = { write: () => true };
const io = (...chunks: (string | Uint8Array)[]) => ({
  stdin: stream(...chunks),
  stdout: quiet,
  stderr: quiet,
});

describe('texts', () => {
  it('come from the arguments, or line by line from standard input, characters cut by chunks included', async () => {
    expect(await readTexts('run', { texts: ['a', 'b'], file: undefined }, io('no'))).toEqual(['a', 'b']);
    const bytes = new TextEncoder().encode('één\r\n\n日本\n');
    const cut = io(bytes.slice(0, 1), bytes.slice(1, 8), bytes.slice(8));
    expect(await readTexts('run', { texts: [], file: undefined }, cut)).toEqual(['één', '日本']);
  });

  it('in pairs have one tab each, or the line is named', () => {
    expect(asPairs('run', ['a\tb', 'c\td'])).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ]);
    expect(() => asPairs('run', ['a\tb', 'c'])).toThrow('bad pair 2');
  });
});

describe('lengths', () => {
  it('are those asked for, or the usual ones that the model takes', () => {
    expect(lengthsFor('bench', '8, 4,8', 10, [])).toEqual([8, 4]);
    expect(lengthsFor('bench', undefined, 128, [16, 128, 512])).toEqual([16, 128]);
    expect(lengthsFor('bench', undefined, 10, [16])).toEqual([10]);
    expect(() => lengthsFor('bench', '11', 10, [])).toThrow('at most 10 tokens, got 11');
  });

  it.each(['', '0', '1.5', '1e3', '-2', '9007199254740993'])('refuses %j', (text) => {
    expect(() => wholeNumbers('bench', '--lengths', text)).toThrow('whole number from 1 on');
  });
});

describe('progress', () => {
  const output = (isTTY: boolean) => {
    const written: string[] = [];
    return { written, out: { isTTY, columns: 60, write: (text: string) => written.push(text) } };
  };

  it('is one line for each part where there is no terminal', () => {
    const { out, written } = output(false);
    const progress = createProgress(out);
    for (const key of ['a: build', 'a: build', 'a: time']) progress.update(0.5, key, `${key} now`);
    progress.clear();
    expect(written).toEqual(['a: build\n', 'a: time\n']);
  });

  it('is one line that is rewritten, fits and is removed on a terminal', () => {
    const { out, written } = output(true);
    let clock = 0;
    const progress = createProgress(out, () => (clock += 40));
    for (let i = 0; i <= 10; i++) progress.update(i / 10, 'part', 'x'.repeat(200));
    progress.clear();
    progress.clear();
    expect(written.length).toBeLessThan(11);
    expect(written.at(-1)).toBe('\r\u001b[2K');
    expect(written[0]).toContain('%');
    for (const text of written) expect(text.replace('\r\u001b[2K', '').length).toBeLessThan(60);
  });
});

describe('interleave', () => {
  const context = { progress: createProgress(quiet), signal: new AbortController().signal };
  const made = (order: number[]) =>
    [0, 1, 2].map(
      (id): Setting => ({ threads: 1, length: id, samples: [], run: async () => void order.push(id) }),
    );

  it('takes turns and starts each round one further', async () => {
    const order: number[] = [];
    const settings = made(order);
    await interleave(settings, 0, context, () => 0.5);
    expect(order.slice(0, 9)).toEqual([0, 0, 0, 1, 1, 1, 2, 2, 2]);
    expect(order.slice(9)).toEqual([0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2, 1, 2, 0]);
    for (const { samples } of settings) expect(samples).toEqual([0, 0, 0, 0, 0]);
  });

  it('stops at an abort', async () => {
    const stopped = { ...context, signal: AbortSignal.abort(new Error('stopped')) };
    await expect(interleave(made([]), 1e9, stopped)).rejects.toThrow('stopped');
  });
});

it('lines up columns and keeps control characters out', () => {
  expect(textTable(['name', 'n'], [['a\u001b[1mb\n', '10']], [1])).toBe('name   n\n────  ──\nab    10');
  expect(
    factList([
      ['a', '1'],
      ['long', '2'],
    ]),
  ).toBe('a     1\nlong  2');
});

it('tells a refusal by its exit code and the nearest candidate', () => {
  const failed = { code: 'X', message: 'it broke' };
  const card = {
    rows: [{ name: 'int8', recipe: [], meetsBudget: false, chosen: false, failed }],
    budget: { maxSizeBytes: 1000 },
    goal: 'least-drop',
    chosen: null,
    refusal: 'Nearest: int8.',
    artifact: null,
  } as unknown as CardData;
  const { exitCode, text, json } = outcome(card, 'out');
  expect(exitCode).toBe(3);
  expect(json).toBe(card);
  expect(text).toContain('Refused. The budget: size at most 1.00 KB.');
  expect(text).toContain('Nearest: int8.');
  expect(text).toContain('failed: it broke');
});
