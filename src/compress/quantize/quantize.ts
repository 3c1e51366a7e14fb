import type { Model } from '../../model/config.ts';
import { encode, type Weight, type WeightSpec } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { overlay } from '../overlay.ts';
import type { StepContext, StepDefinition } from '../step.ts';
import { weightOf } from './chosen-codes.ts';
import { clippingOf } from './clipping.ts';
import { roundToNearest } from './fit.ts';
import { WeightsOnText } from './on-text.ts';
import { needsText, type QuantizeOptions, quantizeSchema } from './options.ts';
import { roundedStore } from './rounded-store.ts';
import type { Width } from './width.ts';
import { widthsOf } from './widths.ts';

/**
 * Matrices in 8, 4 or 2 bits, ternary or binary; products then take their inputs as integers too. Without text each
 * value goes to the nearest code, weight by weight as it is read; with text see `method`. Norms and biases stay as
 * they are, and so do weights of integers. Jacob et al., 2018 (arXiv:1712.05877).
 */
export const quantize: StepDefinition<QuantizeOptions> = {
  step: 'quantize',
  variant: null,
  summary: 'matrices and tables in 8 bits or fewer, products in integers',
  schema: quantizeSchema as unknown as StepDefinition<QuantizeOptions>['schema'],
  async apply(model, options, context) {
    const widths = widthsOf(model, options);
    const rounded = roundedStore(model.weights, widths, (spec, values) => rounding(spec, values, options));
    if (!needsText(options)) return { ...model, weights: rounded };
    const changed = await onText(model, widths, options, context).run();
    return { ...model, weights: overlay(rounded, changed) };
  },
};

function onText(
  model: Model,
  widths: ReadonlyMap<string, Width>,
  options: QuantizeOptions,
  context: StepContext,
): WeightsOnText {
  if (!context.observe)
    throw new AttenuateError(
      'CALIBRATION_MISSING',
      `[quantize] ${options.method === 'rtn' ? 'these options are' : `${options.method} is`} made from what your text looks like inside the model: expected calibration text, got none. Pass it with --calibrate, or observe to applyRecipe.`,
      { method: options.method },
    );
  return new WeightsOnText(model, widths, options, { ...context, observe: context.observe });
}

/** A weight by itself, each value to the nearest code. */
function rounding(spec: WeightSpec, values: Float32Array, options: QuantizeOptions): Weight {
  const clipping = clippingOf(spec, options);
  return clipping === 'max' ? encode(spec, values) : weightOf(spec, roundToNearest(spec, values, clipping));
}
