import { z } from 'zod';
import type { CodeSpec, EncoderConfig } from '../../model/config.ts';
import { refuseInteger } from '../../model/integer/encoder.ts';
import { tensors } from '../../model/integer/names.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { Distribution } from '../quantize/distribution.ts';
import type { StepDefinition } from '../step.ts';
import { IntegerMaker } from './maker.ts';
import { affineCodes, type Clip, sumCodes, symmetricCodes } from './scales.ts';
import { watchedTensors } from './watch.ts';

const schema = z.strictObject({
  step: z.literal('integer'),
  method: z.literal('i-bert'),
  /** Where codes of activations end: where their mean squared error is least, or at the extremes seen. */
  clip: z.enum(['error', 'range']).default('error'),
});

/**
 * An encoder that computes in integers alone between its embedding and its pooled rows: int8 codes with static scales,
 * one for each tensor, found on the user's text; int8 matrices with a scale for each row; everything else in 32 bits,
 * brought from scale to scale by multiplications and shifts. Kim et al. 2021 (I-BERT, arXiv:2101.01321). Matrices that
 * are int8 already stay as they are; other steps of quantisation come before this one.
 */
export const integerStep: StepDefinition<z.infer<typeof schema>> = {
  step: 'integer',
  variant: { option: 'method', value: 'i-bert' },
  summary: 'integers alone from the embedding to the pooled rows; scales from your text',
  schema,
  async apply(model, { clip }, { watch, signal, onProgress }) {
    if (model.config.integer)
      throw new AttenuateError(
        'INTEGER_ALREADY',
        '[integer] a model that computes in integers already: expected floating point, got an integer model. Remove this step from the recipe.',
      );
    const refused = refuseInteger(model.config);
    if (refused)
      throw new AttenuateError(
        'INTEGER_REFUSED',
        `[integer] a model that cannot be computed in integers alone: ${refused}. Leave this step out.`,
      );
    if (!watch)
      throw new AttenuateError(
        'CALIBRATION_MISSING',
        '[integer] scales come from what your text looks like inside the model: expected calibration text, got none. Pass it with --calibrate, or watch to applyRecipe.',
      );
    const seen = await watch(model, (program) => watchedTensors(program, model.config));
    const maker = new IntegerMaker(model, codesFrom(model.config, seen, clip));
    for (const [done, part] of maker.parts.entries()) {
      signal?.throwIfAborted();
      await part();
      onProgress?.('integers', (done + 1) / maker.parts.length);
    }
    return maker.model();
  },
};

/** Scales of all tensors but the embedding's, which comes from its tables. */
function codesFrom(
  { layers, tableSize, embeddingSize }: EncoderConfig,
  seen: ReadonlyMap<string, Distribution>,
  clip: Clip,
): Record<string, CodeSpec> {
  const codes: Record<string, CodeSpec> = {};
  const affine = (name: string) => {
    codes[name] = affineCodes(seen.get(name)!, clip);
  };
  layers.forEach(({ inputSize, outputSize }, i) => {
    const at = tensors.layer(i);
    for (const name of [at.query, at.key, at.value]) codes[name] = symmetricCodes(seen.get(name)!, clip);
    for (const name of [at.sum, at.output]) codes[name] = sumCodes(seen.get(name)!);
    for (const name of [at.input, at.context, at.middle, at.inner]) affine(name);
    if (inputSize !== outputSize) affine(at.residual);
  });
  if ((tableSize ?? embeddingSize) !== embeddingSize) {
    affine(tensors.narrow);
    codes[tensors.embedding] = sumCodes(seen.get(tensors.embedding)!);
  }
  affine(tensors.output);
  return codes;
}
