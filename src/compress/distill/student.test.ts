import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { bytesSource, encodeArtifact, openArtifact } from '../../format/index.ts';
import { createTokenizer } from '../../format/tokenizer.ts';
import type { Model } from '../../model/config.ts';
import { observeInputs } from '../../optimize/index.ts';
import { loadModel } from '../../runtime/index.ts';
import { tokenTexts } from '../../train/data/tokens.ts';
import { foldLayers } from '../../train/fold.ts';
import { factoriseTable } from './factorise.ts';
import { buildStudent } from './student.ts';
import { layerMap, studentSchema } from './student-spec.ts';

const TEXTS = ['a small model runs', 'the quick brown fox', 'every word known to it', 'node and page alike'];

async function embed(model: Model): Promise<Float32Array[]> {
  const loaded = await loadModel(model, { threads: 1 });
  try {
    return await loaded.embed(TEXTS);
  } finally {
    loaded.dispose();
  }
}

const lowestCosine = (a: Float32Array[], b: Float32Array[]) =>
  Math.min(...a.map((row, i) => row.reduce((sum, x, c) => sum + x * b[i][c], 0)));

const student = (teacher: Model, spec: object, text = {}) =>
  buildStudent(teacher, studentSchema.parse(spec), text);

describe('a student', () => {
  it('that leaves nothing out is its teacher', async () => {
    const teacher = madeEncoder();
    expect(await embed(await student(teacher, {}))).toEqual(await embed(teacher));
  });

  it('has the sizes that it was asked for, in its artifact too', async () => {
    const spec = { layers: [1], width: 24, heads: 3, feedForwardSize: 40, tableSize: 8, maxLength: 32 };
    const made = await student(madeEncoder(), spec);
    expect(made.config).toMatchObject({ embeddingSize: 24, tableSize: 8, maxLength: 32, positions: 32 });
    expect(made.config.layers).toEqual([
      expect.objectContaining({ inputSize: 24, outputSize: 24, heads: 3, headSize: 8, feedForwardSize: 40 }),
    ]);
    const rows = await embed(made);
    expect(rows[0]).toHaveLength(24);
    const read = await openArtifact(bytesSource(await encodeArtifact(made)));
    expect(await embed(read)).toEqual(rows);
  });

  it('keeps what its table was worth when the factors are wide enough', async () => {
    const teacher = madeEncoder();
    const whole = await embed(teacher);
    const near = lowestCosine(await embed(await student(teacher, { tableSize: 31 })), whole);
    const far = lowestCosine(await embed(await student(teacher, { tableSize: 6 })), whole);
    expect(near).toBeGreaterThan(0.97);
    expect(far).toBeLessThan(near);
  });

  it('reads texts as before with a pruned vocabulary, in pieces where a word is gone', async () => {
    const teacher = madeEncoder();
    const before = await createTokenizer(teacher.tokenizer!, 64);
    const counts = new Float64Array(before.vocabularySize);
    for (const text of TEXTS.slice(0, 2)) for (const id of before.encode(text).ids) counts[id]++;
    const size = before.vocabularySize - 8;
    const made = await student(teacher, { vocabulary: size }, { counts });
    const after = await createTokenizer(made.tokenizer!, 64);
    expect(after.vocabularySize).toBe(size);
    const words = (tokenizer: typeof after, text: string) =>
      tokenizer.encode(text).ids.map((id) => tokenizer.token(id));
    for (const text of TEXTS.slice(0, 2)) expect(words(after, text)).toEqual(words(before, text));
    const gone = words(after, TEXTS[2]).join(' ').replaceAll(' ##', '');
    expect(gone).toBe(`[CLS] ${TEXTS[2]} [SEP]`);
    const [teacherRows, rows] = [await embed(teacher), await embed(made)];
    expect(rows.slice(0, 2)).toEqual(teacherRows.slice(0, 2));
    await expect(student(teacher, { vocabulary: 10 }, { counts })).rejects.toMatchObject({
      code: 'VOCABULARY_SIZE',
    });
  });

  it('whose lower layers are folded into tables stays near its teacher, nearer than without them', async () => {
    const teacher = madeEncoder();
    const tokenizer = await createTokenizer(teacher.tokenizer!, 64);
    const folded = await foldLayers(teacher, tokenTexts(TEXTS, tokenizer), { below: 1, prior: 0.1 });
    const made = await student(teacher, { layers: [1], fold: true }, { folded });
    expect(made.config).toMatchObject({ tokenTypes: 0, embeddingNorm: false });
    const whole = await embed(teacher);
    const near = lowestCosine(await embed(made), whole);
    expect(near).toBeGreaterThan(lowestCosine(await embed(await student(teacher, { layers: [1] })), whole));
    expect(near).toBeGreaterThan(0.9);
    await expect(student(teacher, { layers: [1], fold: true })).rejects.toMatchObject({ code: 'FOLD_TEXT' });
  });

  it('loses less with neurons chosen and fitted on text than by weights alone', async () => {
    const teacher = madeEncoder();
    const { inputs } = await observeInputs(teacher, TEXTS, {
      products: [0, 1].map((i) => `layers.${i}.feedForward.down.weight`),
      moments: true,
    });
    const whole = await embed(teacher);
    const plain = lowestCosine(await embed(await student(teacher, { feedForwardSize: 16 })), whole);
    const made = await student(teacher, { feedForwardSize: 16 }, { observed: inputs });
    expect(lowestCosine(await embed(made), whole)).toBeGreaterThan(plain);
  });

  it.each([
    ['STUDENT_SIZE', { width: 33 }],
    ['STUDENT_SIZE', { heads: 5 }],
    ['STUDENT_LAYERS', { layers: [2] }],
    ['STUDENT_LAYERS', { layers: [1, 0] }],
  ])('is refused, as %s, for %j', async (code, spec) => {
    await expect(student(madeEncoder(), spec)).rejects.toMatchObject({ code });
  });

  it('maps layers as named strategies do', () => {
    const map = (layers: number, map: 'uniform' | 'first' | 'last' | 'ends') => layerMap({ layers, map }, 12);
    expect(map(4, 'uniform')).toEqual([2, 5, 8, 11]);
    expect(map(3, 'first')).toEqual([0, 1, 2]);
    expect(map(2, 'last')).toEqual([10, 11]);
    expect(map(3, 'ends')).toEqual([0, 1, 11]);
    expect(layerMap({ map: 'uniform' }, 3)).toEqual([0, 1, 2]);
  });
});

describe('a factorised table', () => {
  it('loses nothing of a table whose rank fits, and weighs rows by how often they are read', () => {
    const rank1 = Float32Array.from(
      { length: 20 },
      (_, i) => (1 + Math.floor(i / 4)) * [1, -2, 0.5, 3][i % 4],
    );
    const { table, projection, lost } = factoriseTable(rank1, 4, 1, new Float64Array(5).fill(1));
    expect(lost).toBeLessThan(1e-9);
    for (let r = 0; r < 5; r++)
      for (let c = 0; c < 4; c++) expect(table[r] * projection[c]).toBeCloseTo(rank1[r * 4 + c], 4);
    const two = Float32Array.from([1, 0, 0, 1]);
    const first = factoriseTable(two, 2, 1, [10, 1]).projection;
    expect(Math.abs(first[0])).toBeCloseTo(1);
    expect(first[1]).toBeCloseTo(0);
  });
});

it('a masked-token head over a narrow table is refused by name', async () => {
  const teacher = madeEncoder({ kind: 'maskedToken', activation: 'gelu' });
  await expect(student(teacher, {})).rejects.toMatchObject({ code: 'STUDENT_UNSUPPORTED' });
});
