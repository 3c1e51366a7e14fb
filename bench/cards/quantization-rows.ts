/** A way to store a model, by name: a recipe, or a search for the mixture of a size. */
export interface Storage {
  readonly name: string;
  readonly title: string;
  readonly recipe: readonly object[];
  /** Searches the widths that lose least at this other row's size. */
  readonly mixedAt?: string;
}

const quantize = (options: object) => [{ step: 'quantize', ...options }];
const INT4 = { bits: 4, embeddings: 'int4-g32' } as const;

const ROWS: readonly Storage[] = [
  { name: 'float32', title: 'float32', recipe: [] },
  { name: 'float16', title: 'float16', recipe: quantize({ bits: 16 }) },
  {
    name: 'bfloat16',
    title: 'bfloat16',
    recipe: quantize({ mixed: { '/\\.weight$/': 'bfloat16' }, embeddings: 'bfloat16' }),
  },
  { name: 'int8', title: 'int8, by row', recipe: quantize({ bits: 8 }) },
  {
    name: 'int8-bias',
    title: 'int8, bias correction',
    recipe: quantize({ bits: 8, biasCorrection: true }),
  },
  {
    name: 'int8-static',
    title: 'int8, static ranges (least squared error)',
    recipe: quantize({ bits: 8, activations: 'static' }),
  },
  {
    name: 'int8-static-minmax',
    title: 'int8, static ranges (all that was seen)',
    recipe: quantize({ bits: 8, activations: 'static', observer: 'minmax' }),
  },
  {
    name: 'int8-static-entropy',
    title: 'int8, static ranges (entropy)',
    recipe: quantize({ bits: 8, activations: 'static', observer: 'entropy' }),
  },
  { name: 'int8-smooth', title: 'int8, SmoothQuant', recipe: quantize({ bits: 8, method: 'smoothquant' }) },
  {
    name: 'int8-smooth-static',
    title: 'int8, SmoothQuant, static ranges',
    recipe: quantize({ bits: 8, method: 'smoothquant', activations: 'static' }),
  },
  { name: 'int8-gptq', title: 'int8, GPTQ', recipe: quantize({ bits: 8, method: 'gptq' }) },
  { name: 'integer', title: 'integers throughout (I-BERT)', recipe: [{ step: 'integer', method: 'i-bert' }] },
  {
    name: 'int4-float-table',
    title: 'int4 g32, to nearest, float table',
    recipe: quantize({ bits: 4, embeddings: false }),
  },
  {
    name: 'int4-int8-table',
    title: 'int4 g32, to nearest, int8 table',
    recipe: quantize({ bits: 4, embeddings: 'int8' }),
  },
  { name: 'int4', title: 'int4 g32, to nearest, int4 table', recipe: quantize(INT4) },
  {
    name: 'int4-affine',
    title: 'int4 g32, affine, to nearest',
    recipe: quantize({ ...INT4, scheme: 'affine' }),
  },
  { name: 'int4-g64', title: 'int4 g64, to nearest', recipe: quantize({ ...INT4, groupSize: 64 }) },
  { name: 'int4-g128', title: 'int4 g128, to nearest', recipe: quantize({ ...INT4, groupSize: 128 }) },
  { name: 'int4-awq', title: 'int4 g32, AWQ', recipe: quantize({ ...INT4, method: 'awq' }) },
  {
    name: 'int4-gptq-int8-table',
    title: 'int4 g32, GPTQ, int8 table',
    recipe: quantize({ bits: 4, method: 'gptq', embeddings: 'int8' }),
  },
  { name: 'int4-gptq', title: 'int4 g32, GPTQ, int4 table', recipe: quantize({ ...INT4, method: 'gptq' }) },
  {
    name: 'int4-gptq-small-table',
    title: 'int4 g32, GPTQ, int4 g128 table',
    recipe: quantize({ bits: 4, method: 'gptq', embeddings: 'int4-g128' }),
  },
  { name: 'mixed', title: 'the mixture of the size of int4 g32', recipe: [], mixedAt: 'int4' },
  {
    name: 'int2',
    title: 'int2 g32, affine, to nearest',
    recipe: quantize({ bits: 2, scheme: 'affine', embeddings: 'int4-g32' }),
  },
  {
    name: 'int2-gptq',
    title: 'int2 g32, affine, GPTQ',
    recipe: quantize({ bits: 2, scheme: 'affine', method: 'gptq', embeddings: 'int4-g32' }),
  },
  {
    name: 'ternary',
    title: 'ternary, TWN',
    recipe: quantize({ bits: 'ternary', ternary: 'twn', embeddings: 'int4-g32' }),
  },
  {
    name: 'ternary-absmean',
    title: 'ternary, BitNet’s mean magnitude',
    recipe: quantize({ bits: 'ternary', ternary: 'absmean', embeddings: 'int4-g32' }),
  },
  {
    name: 'ternary-gptq',
    title: 'ternary, GPTQ',
    recipe: quantize({ bits: 'ternary', method: 'gptq', embeddings: 'int4-g32' }),
  },
  { name: 'binary', title: 'binary, BWN', recipe: quantize({ bits: 'binary', embeddings: 'int4-g32' }) },
  {
    name: 'binary-binary',
    title: 'binary, inputs in one bit too',
    recipe: quantize({ bits: 'binary', activations: 'binary', embeddings: 'int4-g32' }),
  },
];

export const SUBJECTS = { minilm: 'all-MiniLM-L6-v2', use: 'Universal Sentence Encoder Lite' } as const;
export type Subject = keyof typeof SUBJECTS;

export const rowNames: readonly string[] = Object.keys(SUBJECTS).flatMap((subject) =>
  ROWS.map(({ name }) => `${subject}:${name}`),
);

/** What a row's name means. */
export function storageOf(row: string): { subject: Subject; storage: Storage } {
  const [subject, name] = row.split(':');
  return { subject: subject as Subject, storage: ROWS.find((storage) => storage.name === name)! };
}
