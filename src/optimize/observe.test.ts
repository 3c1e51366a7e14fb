import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { madeEncoder } from '../../test/made-encoder.ts';
import { runReferenceAll } from '../backend/reference/interpreter.ts';
import { productInputs } from '../compress/index.ts';
import { createTokenizer } from '../format/index.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { names } from '../model/names.ts';
import { encode, type Weight } from '../tensor/codec.ts';
import { type ObserveProgress, observeInputs } from './observe.ts';
import { StatisticsCache } from './statistics-cache.ts';

const TEXTS = ['a small model runs', 'every word known to it', 'quick brown fox in the page', 'node alike'];
const { query, key, up, down } = names.layer(1);
const PRODUCTS = [`${query}.weight`, `${up}.weight`, `${down}.weight`];

/** All rows that a product reads, by the float64 reference. */
async function rowsOf(model: Model, product: string): Promise<Float64Array[]> {
  const weights = new Map<string, Weight>();
  for (const name of model.weights.specs.keys()) weights.set(name, await model.weights.read(name));
  const program = await traceEncoder(model.config, model.weights.specs);
  const [value] = productInputs(program).find(({ products }) => products.includes(product))!.values;
  const out: Float64Array[] = [];
  for (const text of TEXTS) {
    const { ids, types } = (await createTokenizer(model.tokenizer!, 64)).encode(text);
    const N = ids.length;
    const rows = Array.from(ids, (_, i) => i);
    const values = runReferenceAll(
      program,
      weights,
      { ids, types, lengths: [N], rows },
      { B: 1, N, P: N },
      256,
    );
    const { data, shape } = values.get(value.name)!;
    const C = shape.at(-1)!;
    for (let at = 0; at < data.length; at += C) out.push(data.subarray(at, at + C));
  }
  return out;
}

describe('observeInputs', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'attenuate-observe-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('gives what the products read, column by column', async () => {
    const model = madeEncoder();
    const { inputs, sequences } = await observeInputs(model, TEXTS, { products: PRODUCTS, moments: true });
    expect(sequences).toBe(TEXTS.length);
    for (const name of PRODUCTS) {
      const rows = await rowsOf(model, name);
      const found = inputs.get(name)!;
      expect(found.rows).toBe(rows.length);
      expect(found.samples).toHaveLength(rows.length * found.columns);
      for (let c = 0; c < found.columns; c++) {
        const column = rows.map((row) => row[c]);
        expect(found.least[c]).toBeCloseTo(Math.min(...column), 4);
        expect(found.most[c]).toBeCloseTo(Math.max(...column), 4);
        expect(found.mean[c]).toBeCloseTo(column.reduce((a, b) => a + b) / rows.length, 4);
        const magnitude = column.reduce((a, b) => a + Math.abs(b), 0) / rows.length;
        expect(found.meanMagnitude[c]).toBeCloseTo(magnitude, 4);
        const moment = rows.reduce((sum, row) => sum + row[c] * row[1], 0) / rows.length;
        expect(found.moments![c * found.columns + 1]).toBeCloseTo(moment, 4);
      }
    }
  });

  it('shares what the query, key and value read', async () => {
    const { inputs } = await observeInputs(madeEncoder(), TEXTS, { products: PRODUCTS, moments: false });
    expect(inputs.get(`${key}.weight`)).toBe(inputs.get(`${query}.weight`));
    expect(inputs.get(`${up}.weight`)!.moments).toBeNull();
  });

  it('sees every row of a masked-token head', async () => {
    const model = madeEncoder({ kind: 'maskedToken', activation: 'gelu' });
    const product = `${names.head.transform}.weight`;
    const { inputs } = await observeInputs(model, TEXTS, {
      products: [product, names.word],
      moments: false,
    });
    expect(inputs.get(product)!.rows).toBe((await rowsOf(model, product)).length);
    expect(inputs.get(names.word)!.columns).toBe(32);
  });

  it('goes on where an abort stopped it, with the same result, and then runs nothing', async () => {
    const model = madeEncoder();
    const request = { products: PRODUCTS, moments: true };
    const straight = await observeInputs(model, TEXTS, request);
    const cache = new StatisticsCache(folder);
    const controller = new AbortController();
    const seen: ObserveProgress[] = [];
    const stopped = observeInputs(model, TEXTS, request, {
      cache,
      signal: controller.signal,
      onProgress: ({ done }) => done === 2 && controller.abort(new Error('stopped')),
    });
    await expect(stopped).rejects.toThrow('stopped');
    const onProgress = (progress: ObserveProgress) => void seen.push(progress);
    const resumed = await observeInputs(model, TEXTS, request, { cache, onProgress });
    expect(seen.map(({ done }) => done)).toEqual([3, 4]);
    for (const name of PRODUCTS) {
      const [want, got] = [straight, resumed].map(({ inputs }) => inputs.get(name)!);
      expect({ ...got, moments: null }).toEqual({ ...want, moments: null });
      const apart = got.moments!.map((v, i) => Math.abs(v - want.moments![i]));
      expect(Math.max(...apart)).toBeLessThan(1e-5);
    }
    const again = await observeInputs(model, TEXTS, request, { cache, onProgress });
    expect(seen).toHaveLength(2);
    expect(again.inputs.get(PRODUCTS[0])).toEqual(resumed.inputs.get(PRODUCTS[0]));
  });

  it('runs anew for another model, other text, and a file that is cut short', async () => {
    const cache = new StatisticsCache(folder);
    const request = { products: PRODUCTS, moments: false };
    let runs = 0;
    const options = { cache, onProgress: ({ done }: ObserveProgress) => void (done === 1 && runs++) };
    await observeInputs(madeEncoder(), TEXTS, request, options);
    await observeInputs(madeEncoder(), TEXTS.slice(1), request, options);
    expect(runs).toBe(2);
    const model = madeEncoder();
    const changed = { ...model, config: { ...model.config, epsilon: 1e-6 } };
    await observeInputs(changed, TEXTS, request, options);
    expect(runs).toBe(3);
    for (const name of await readdir(folder)) {
      const bytes = await readFile(join(folder, name));
      await writeFile(join(folder, name), bytes.subarray(0, bytes.length - 5));
    }
    await observeInputs(changed, TEXTS, request, options);
    expect(runs).toBe(4);
  });

  it('keeps no more than it may', async () => {
    const one = new StatisticsCache(folder);
    const request = { products: PRODUCTS, moments: true };
    await observeInputs(madeEncoder(), TEXTS, request, { cache: one });
    const [first] = await readdir(folder);
    const size = (await readFile(join(folder, first))).length;
    const small = new StatisticsCache(folder, size * 1.5);
    await observeInputs(madeEncoder(), TEXTS.slice(1), request, { cache: small });
    const left = await readdir(folder);
    expect(left).toHaveLength(1);
    expect(left).not.toContain(first);
  });

  it('refuses no text, unknown weights and activations that are not finite', async () => {
    const request = { products: PRODUCTS, moments: false };
    await expect(observeInputs(madeEncoder(), [], request)).rejects.toMatchObject({
      code: 'CALIBRATION_EMPTY',
    });
    const unknown = { products: ['no.such.weight'], moments: false };
    await expect(observeInputs(madeEncoder(), TEXTS, unknown)).rejects.toMatchObject({
      code: 'CALIBRATION_PRODUCT',
    });
    const model = madeEncoder();
    const { read } = model.weights;
    const broken = async (name: string) =>
      name === `${names.embeddingNorm}.bias`
        ? encode('float32', [32], new Float32Array(32).fill(Number.NaN))
        : read(name);
    const cache = new StatisticsCache(folder);
    const bad = { ...model, weights: { ...model.weights, read: broken } };
    await expect(observeInputs(bad, TEXTS, request, { cache })).rejects.toMatchObject({
      code: 'CALIBRATION_NOT_FINITE',
    });
    expect(await readdir(folder)).toEqual([]);
  });
});
