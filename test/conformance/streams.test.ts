import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MECHANISMS } from '../../src/attention/all.ts';
import { applyRecipe, formatAttention } from '../../src/compress/index.ts';
import { calibrationFrom } from '../../src/optimize/calibration.ts';
import { loadModel } from '../../src/runtime/index.ts';
import type { TextModel } from '../../src/runtime/types.ts';
import { madeEncoder } from '../made-encoder.ts';

/*
 * A stream with threshold 0 gives what a fresh run gives, to the bit, whichever mechanism the layers have: a new file
 * in src/attention/mechanisms is held to it with each of its `examples`.
 */

const VOCABULARY = madeEncoder().config.vocabularySize;
const MOST = 40;
const TEXTS = ['a small model runs in the page', 'every word known to it, quick brown fox and node alike'];

/** Replace, insert or delete `count` tokens somewhere. */
const edit = fc.record({
  kind: fc.constantFrom('replace', 'insert', 'delete', 'nothing'),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  tokens: fc.array(fc.integer({ min: 0, max: VOCABULARY - 1 }), { minLength: 1, maxLength: 3 }),
});
type Edit = typeof edit extends fc.Arbitrary<infer E> ? E : never;
const start = fc.array(fc.integer({ min: 0, max: VOCABULARY - 1 }), { minLength: 1, maxLength: MOST });

function apply(ids: readonly number[], { kind, at, tokens }: Edit): number[] {
  const place = Math.floor(at * ids.length);
  if (kind === 'nothing') return [...ids];
  const gone = kind === 'insert' ? 0 : tokens.length;
  const put = kind === 'delete' ? [] : tokens;
  const out = [...ids.slice(0, place), ...put, ...ids.slice(place + gone)].slice(0, MOST);
  return out.length ? out : [tokens[0]];
}

const variants = MECHANISMS.flatMap(({ kind, examples }) =>
  examples.map((example) => {
    const spec = { kind, ...example };
    return { name: formatAttention(spec), recipe: [{ step: 'attention', ...spec }] as unknown[] };
  }),
);
const last = variants.at(-1)!;
const cases = [
  ...variants.map((variant) => ({ ...variant, norm: 'post' as const })),
  { name: 'dense, norms first', recipe: [], norm: 'pre' as const },
  { name: 'dense, int8', recipe: [{ step: 'quantize', bits: 8 }], norm: 'post' as const },
  {
    name: `${last.name}, int8`,
    recipe: [...last.recipe, { step: 'quantize', bits: 8 }],
    norm: 'pre' as const,
  },
];

describe.each(cases)('a stream of $name', ({ recipe, norm }) => {
  let model: TextModel;
  beforeAll(async () => {
    const made = madeEncoder();
    const calibrate = (m: typeof made) => calibrationFrom(m, TEXTS);
    model = await loadModel(
      await applyRecipe({ ...made, config: { ...made.config, norm } }, recipe, { calibrate }),
    );
  });
  afterAll(() => model?.dispose());

  it('equals a fresh run to the bit, however the text changes', async () => {
    const property = fc.asyncProperty(start, fc.array(edit, { maxLength: 5 }), async (first, edits) => {
      const stream = await model.stream();
      let ids = first;
      for (const change of [null, ...edits]) {
        ids = change ? apply(ids, change) : ids;
        const { embedding } = await stream.push(ids);
        const [fresh] = await model.run([ids]);
        expect(new Int32Array(embedding!.buffer)).toEqual(new Int32Array(fresh.buffer));
      }
      const { recomputed } = await stream.push(ids);
      expect(recomputed).toMatchObject({ rows: 0, multiplyAdds: 0 });
      stream.dispose();
    });
    await fc.assert(property, { numRuns: 12, seed: 5 });
  });
});
