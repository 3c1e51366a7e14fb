import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { applyRecipe } from '../../compress/index.ts';
import { names } from '../../model/names.ts';
import { decode, encode } from '../../tensor/codec.ts';
import { productError, tableError } from './local-error.ts';
import { measureSensitivity } from './sensitivity.ts';
import type { TaskMetric } from './task-metric.ts';

const TEXTS = [
  'a small model runs',
  'every word known to it',
  'quick brown fox in the page and node alike',
  'fox',
  'the page runs in node',
];
const WIDTHS = ['float16', 'int8', 'int4-g32', 'ternary-g32', 'binary-g32'];

const memory = () => {
  const kept = new Map<string, string>();
  return {
    kept,
    async readJson<T>(key: string): Promise<T | null> {
      return JSON.parse(kept.get(key) ?? 'null');
    },
    async writeJson(key: string, value: unknown) {
      kept.set(key, JSON.stringify(value));
    },
  };
};

describe('measureSensitivity', () => {
  it('gives every weight in every width, narrower ones losing more', async () => {
    const found = await measureSensitivity(madeEncoder(), TEXTS, { widths: WIDTHS });
    expect(found.texts).toBe(5);
    expect(found.units.map(({ weight }) => weight)).toEqual([
      names.word,
      names.position,
      names.tokenType,
      ...[0, 1].flatMap((i) => {
        const { query, key, value, output, up, down } = names.layer(i);
        return [query, key, value, output, up, down].map((name) => `${name}.weight`);
      }),
    ]);
    for (const { weight, widths } of found.units) {
      expect(widths.map(({ width }) => width)).toEqual(WIDTHS);
      for (const key of ['output', 'local'] as const) {
        const [half, eight, four, ...fewest] = widths.map((width) => width[key]);
        expect(half).toBeGreaterThanOrEqual(0);
        expect(eight, `${weight} ${key}`).toBeGreaterThan(half);
        expect(four, `${weight} ${key}`).toBeGreaterThan(eight);
        for (const loss of fewest) expect(loss, `${weight} ${key}`).toBeGreaterThan(four);
      }
      expect(widths[1].bytes).toBeLessThan(widths[0].bytes);
    }
    const [word, , , query, , value] = found.units;
    expect([word.role, word.layer, word.product]).toEqual(['word', null, false]);
    expect([query.role, query.layer, query.product]).toEqual(['query', 0, true]);
    expect([query.stack, value.stack]).toEqual([query.weight, query.weight]);
  });

  it('goes on after a stop with what is kept, and measures nothing twice', async () => {
    const store = memory();
    const controller = new AbortController();
    const stopped = measureSensitivity(madeEncoder(), TEXTS, {
      widths: WIDTHS,
      kept: store,
      signal: controller.signal,
      onProgress: ({ fraction }) => fraction > 0.5 && controller.abort(new Error('stopped')),
    });
    await expect(stopped).rejects.toThrow('stopped');
    const before = store.kept.size;
    expect(before).toBeGreaterThan(3);
    const found = await measureSensitivity(madeEncoder(), TEXTS, { widths: WIDTHS, kept: store });
    expect(found).toEqual(await measureSensitivity(madeEncoder(), TEXTS, { widths: WIDTHS }));
    const all = store.kept.size;
    expect(all).toBe(found.units.length + found.activations.length);
    expect(await measureSensitivity(madeEncoder(), TEXTS, { widths: WIDTHS, kept: store })).toEqual(found);
    // Another text, other figures.
    await measureSensitivity(madeEncoder(), TEXTS.slice(1), { widths: WIDTHS, kept: store });
    expect(store.kept.size).toBe(2 * all);
  });

  it('leaves out what is quantised already, and widths whose groups do not fit', async () => {
    const small = await applyRecipe(madeEncoder(), [{ step: 'quantize', bits: 8, layers: [0] }]);
    const { units } = await measureSensitivity(small, TEXTS, { widths: ['int4-g32', 'int4-g64'] });
    expect(units.some(({ weight }) => weight === names.word || weight.startsWith('layers.0.'))).toBe(false);
    const widths = Object.fromEntries(units.map((u) => [u.weight, u.widths.map(({ width }) => width)]));
    expect(widths[`${names.layer(1).up}.weight`]).toEqual(['int4-g32']);
    expect(widths[`${names.layer(1).down}.weight`]).toEqual(['int4-g32', 'int4-g64']);
  });

  it('measures the loss of a task where one is given, on its own texts', async () => {
    const texts = [...TEXTS, 'a fox'];
    const task: TaskMetric = {
      name: 'accuracy',
      texts,
      open: async (baseline) => (rows) => {
        expect(rows).toHaveLength(texts.length);
        return rows[3].reduce((sum, v, i) => sum + v * baseline[5][i], 0);
      },
    };
    const {
      metric,
      units,
      texts: count,
    } = await measureSensitivity(madeEncoder(), [], {
      widths: ['int8', 'binary-g32'],
      task,
    });
    expect(count).toBe(texts.length);
    expect(metric!.name).toBe('accuracy');
    expect(metric!.value).toBeLessThanOrEqual(1.0001);
    for (const { widths } of units) for (const { metric: loss } of widths) expect(loss).not.toBeNull();
    expect(units.some(({ widths }) => Math.abs(widths[1].metric!) > 1e-4)).toBe(true);
  });

  it('tells what products lose by activations in 8 bits, beside what their weights lose', async () => {
    const { activations } = await measureSensitivity(madeEncoder(), TEXTS, { widths: ['int8'] });
    expect(activations.map(({ stack }) => stack)).toEqual(
      [0, 1].flatMap((i) => {
        const { query, output, up, down } = names.layer(i);
        return [query, output, up, down].map((name) => `${name}.weight`);
      }),
    );
    for (const { output, weights } of activations) {
      expect(output).toBeGreaterThan(0);
      expect(output).toBeLessThan(1e-2);
      expect(weights).toBeGreaterThan(0);
    }
  });
});

describe('local errors', () => {
  it('of a product is that of its output', async () => {
    const exact = Float32Array.of(1, 2, 3, -1, 0.5, 4);
    const rounded = decode(encode({ codec: 'int4', shape: [2, 3] }, exact));
    const inputs = Float32Array.of(1, 1, 0, -2, 0.5, 1, 0.3, 0.3, 0.3);
    let [error, norm] = [0, 0];
    for (const x of [0, 3, 6])
      for (const row of [0, 3]) {
        let [a, b] = [0, 0];
        for (const k of [0, 1, 2]) {
          a += inputs[x + k] * exact[row + k];
          b += inputs[x + k] * rounded[row + k];
        }
        error += (b - a) ** 2;
        norm += a ** 2;
      }
    expect(productError(inputs, 3, exact, rounded)).toBeCloseTo(error / norm, 9);
    expect(productError(inputs, 3, new Float32Array(6), rounded)).toBe(0);
  });

  it('of a table counts each row as often as it is read', () => {
    const uses = new Map([
      [1, 3],
      [2, 1],
    ]);
    const error = tableError(uses, 2, Float32Array.of(9, 9, 1, 1, 2, 0), Float32Array.of(0, 0, 1, 2, 2, 0));
    expect(error).toBeCloseTo(3 / 10, 9);
  });
});
