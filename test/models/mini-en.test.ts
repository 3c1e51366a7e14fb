import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseRecipe } from '../../src/compress/index.ts';
import { openArtifact } from '../../src/format/artifact.ts';
import { fileSource } from '../../src/format/index.ts';
import { load } from '../../src/runtime/index.ts';
import type { TextModel } from '../../src/runtime/types.ts';
import { type ModelFigures, modelCard } from '../../training/model-card.ts';

const folder = resolve(import.meta.dirname, '../../models/attenuate-mini-en');
const file = resolve(folder, 'model.safetensors');
const read = (name: string) => readFileSync(resolve(folder, name), 'utf8');
const figures: ModelFigures = JSON.parse(read('figures.json'));

describe('attenuate-mini-en', () => {
  let model: TextModel;
  beforeAll(async () => {
    model = await load(file);
  });
  afterAll(() => model.dispose());

  it('is at most 6 MB, and the file that its figures are of', async () => {
    expect(statSync(file).size).toBeLessThanOrEqual(6e6);
    expect(statSync(file).size).toBe(figures.bytes);
    const artifact = await openArtifact(await fileSource(file));
    expect(artifact.hash).toBe(figures.hash);
    await artifact.weights.close!();
  });

  it('was made by the recipe that its command has', async () => {
    const artifact = await openArtifact(await fileSource(file));
    const recipe = readFileSync(resolve(import.meta.dirname, '../../training/mini-en/recipe.json'), 'utf8');
    expect(artifact.recipe).toEqual(parseRecipe(JSON.parse(recipe)));
    await artifact.weights.close!();
  });

  it('reached what it was made for', () => {
    expect(figures.stsb.model).toBeGreaterThanOrEqual(0.8);
  });

  it('puts each sentence nearer to its paraphrase than to any other', async () => {
    const pairs = [
      ['A cat sat on the mat.', 'The kitten rested on the rug.'],
      ['How can I get my money back?', 'I would like a refund.'],
      ['The ship went down in the storm.', 'A vessel sank during bad weather.'],
      ['She plays the violin very well.', 'She is an excellent violinist.'],
      ['Congress passed the new tax law.', 'Lawmakers approved legislation on taxes.'],
      ['My computer will not start.', 'The PC does not boot.'],
    ];
    const rows = await model.embed(pairs.flat());
    expect(rows[0]).toHaveLength(384);
    const cosine = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    pairs.forEach((_, i) => {
      const near = cosine(rows[2 * i], rows[2 * i + 1]);
      const others = rows.filter((_, j) => j >> 1 !== i).map((row) => cosine(rows[2 * i], row));
      expect(near, pairs[i].join(' / ')).toBeGreaterThan(Math.max(...others));
    });
  });

  it('takes any text, in pieces or not at all', async () => {
    const rows = await model.embed([
      '',
      '漢字 🙂 žluťoučký',
      'antidisestablishmentarianism',
      'x '.repeat(5000),
    ]);
    for (const row of rows) expect(Math.hypot(...row)).toBeCloseTo(1, 3);
  });

  it('has a card that nobody wrote by hand, which names every text and its licence', async () => {
    const artifact = await openArtifact(await fileSource(file));
    const card = modelCard('attenuate-mini-en', 'npm run train:mini-en', artifact, figures);
    expect(read('README.md')).toBe(card);
    const { sources } = artifact.provenance.texts as { sources: { name: string; licence: string }[] };
    expect(sources.length).toBeGreaterThan(5);
    for (const { name, licence } of sources) {
      expect(card).toContain(name);
      expect(licence).not.toBe('');
    }
    expect(JSON.stringify(artifact.provenance)).not.toMatch(/sts|sst/i);
    await artifact.weights.close!();
  });
});
