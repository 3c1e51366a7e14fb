import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../test/made-encoder.ts';
import { runReference } from '../backend/reference/interpreter.ts';
import { probeFeatures } from '../backend/wasm/probe.ts';
import { applyRecipe } from '../compress/index.ts';
import { openHuggingFace } from '../format/index.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { loadModel } from '../runtime/index.ts';
import type { Weight } from '../tensor/codec.ts';
import dense from './mechanisms/dense.ts';
import { parseOptions } from './options.ts';

const MINILM = join(import.meta.dirname, '../../../shared/models/all-MiniLM-L6-v2');
const PRECISIONS = ['int8-scores', 'int8'] as const;

const withPrecision = (model: Model, precision: string, kind = 'dense', options = {}) =>
  applyRecipe(model, [{ step: 'attention', kind, ...options, precision }]);

async function embed(model: Model, texts: string[]): Promise<Float32Array[]> {
  const loaded = await loadModel(model, { threads: 1 });
  try {
    return (await loaded.embed(texts)) as Float32Array[];
  } finally {
    await loaded.dispose();
  }
}

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / Math.sqrt(aa * bb);
}

describe('the precision of attention over pairs', () => {
  it('is float32 unless another is asked for, and one of those there are', () => {
    expect(parseOptions('dense', dense.options, {})).toMatchObject({ precision: 'float32' });
    expect(() => parseOptions('dense', dense.options, { precision: 'int4' })).toThrow(
      expect.objectContaining({ code: 'ATTENTION_OPTION' }),
    );
  });

  it('is refused by a mechanism that merges row statistics', async () => {
    await expect(withPrecision(madeEncoder(), 'int8', 'strided')).rejects.toThrow(/precision/);
  });

  it.each([{ softcap: 30 }, { position: 'alibi' }, { position: 'relative' }])(
    'is refused with scores that pass through an expression: %j',
    async (options) => {
      await expect(withPrecision(madeEncoder(), 'int8', 'dense', options)).rejects.toMatchObject({
        code: 'ATTENTION_REFUSED',
      });
    },
  );

  it('combines with rotary positions', async () => {
    const [want, got] = await Promise.all(
      ['float32', 'int8'].map(async (precision) =>
        embed(await withPrecision(madeEncoder(), precision, 'dense', { position: 'rotary' }), [
          'a small model',
        ]),
      ),
    );
    expect(cosine(got[0], want[0])).toBeGreaterThan(0.999);
  });

  it.each(PRECISIONS)('%s: runs a whole encoder as its reference does', async (precision) => {
    const texts = ['a small model runs in the page', 'node'];
    const model = await withPrecision(madeEncoder(), precision);
    const program = await traceEncoder(model.config, model.weights.specs);
    expect(program.nodes.filter(({ kind }) => kind === 'integerAttention')).toHaveLength(2);
    expect(program.nodes.some(({ kind }) => kind === 'attention')).toBe(false);
    const weights = new Map<string, Weight>();
    for (const name of model.weights.specs.keys()) weights.set(name, await model.weights.read(name));
    const loaded = await loadModel(model, { threads: 1 });
    const [got, plain] = [await embed(model, texts), await embed(madeEncoder(), texts)];
    for (const [i, text] of texts.entries()) {
      const ids = await loaded.tokenize(text);
      const N = ids.length;
      const inputs = { ids, types: new Int32Array(N), lengths: [N] };
      const levels = probeFeatures().dot === 'u7' ? 128 : 256;
      const [want] = runReference(program, weights, inputs, { B: 1, N }, levels);
      expect(got[i].every(Number.isFinite)).toBe(true);
      // What a layer gives differs by 1e-7 here and there, and with that, now and then, the code of a query or key.
      expect(Math.max(...want.map((w, d) => Math.abs(w - got[i][d])))).toBeLessThan(5e-4);
      expect(cosine(got[i], plain[i])).toBeGreaterThan(0.999);
    }
    await loaded.dispose();
  });

  it.each(PRECISIONS)('%s: combines with a window', async (precision) => {
    const texts = ['a small model runs in the page and node alike with every word known'];
    const window = { left: 2, right: 2 };
    const model = await applyRecipe(madeEncoder(), [{ step: 'attention', kind: 'local', ...window }]);
    const coded = await withPrecision(madeEncoder(), precision, 'local', window);
    const [[want], [got]] = [await embed(model, texts), await embed(coded, texts)];
    expect(cosine(got, want)).toBeGreaterThan(0.999);
  });

  it.skipIf(!existsSync(join(MINILM, 'model.safetensors')))(
    'leaves the sentences of MiniLM where they are (skipped without ../shared)',
    async () => {
      const texts = [
        'A man is playing a guitar on the street.',
        'The committee postponed its decision until the audit of the regional accounts was complete.',
        'ok',
        `${'Long documents repeat themselves, and then they add a detail that matters. '.repeat(12)}`,
      ];
      const model = await openHuggingFace(MINILM);
      const plain = await embed(model, texts);
      for (const precision of PRECISIONS) {
        const coded = await embed(await withPrecision(model, precision), texts);
        for (const [i, e] of coded.entries()) expect(cosine(e, plain[i])).toBeGreaterThan(0.999);
      }
    },
    60_000,
  );
});
