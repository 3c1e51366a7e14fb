import { z } from 'zod';
import { MECHANISMS } from '../attention/all.ts';
import type { Calibration, Initialised, LayerShape, Mechanism } from '../attention/mechanism.ts';
import { type OptionSpec, parseOptions } from '../attention/options.ts';
import type { Model } from '../model/config.ts';
import { expectFit, layerShape } from '../model/encoder.ts';
import { names } from '../model/names.ts';
import { decode, encode, isFloat, type Weight, type WeightSpec } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { type LayerSelection, layersSchema, selectLayers } from './layers.ts';
import { overlay } from './overlay.ts';
import { byColumns, companionsOf, inputScaleOf } from './quantize/companions.ts';
import type { RecipeStep, StepContext, StepDefinition } from './step.ts';

function fieldOf(spec: OptionSpec): z.ZodType {
  const type = (): z.ZodType => {
    switch (spec.type) {
      case 'integer':
        return z.int().min(spec.least).max(spec.most);
      case 'number':
        return z.number().min(spec.least).max(spec.most);
      case 'boolean':
        return z.boolean();
      case 'choice':
        return z.enum(spec.choices as [string, ...string[]]);
      case 'integers':
        return z.array(z.int().min(spec.least).max(spec.most)).max(spec.length);
      case 'mask':
        return z.looseObject({ op: z.string() });
    }
  };
  const field = type().describe(spec.what);
  return spec.default === undefined ? field : field.default(spec.default as never);
}

type Options = RecipeStep & { readonly kind: string; readonly layers: LayerSelection };

/** The recipe step that gives layers a mechanism: its options beside `layers`. */
function stepOf(mechanism: Mechanism): StepDefinition<Options> {
  const fields = Object.fromEntries(
    Object.entries(mechanism.options).map(([name, spec]) => [name, fieldOf(spec)]),
  );
  const schema = z.strictObject({
    step: z.literal('attention'),
    kind: z.literal(mechanism.kind),
    ...fields,
    layers: layersSchema.default('all'),
  });
  return {
    step: 'attention',
    variant: { option: 'kind', value: mechanism.kind },
    summary: mechanism.summary,
    schema: schema as unknown as z.ZodType<Options>,
    async apply(model, { step: _, kind, layers, ...given }, context) {
      const chosen = [...selectLayers('attention', layers, model.config.layers.length)];
      const options = parseOptions(kind, mechanism.options, given);
      const shapes = chosen.map((index) => layerShape(model.config, index));
      for (const layer of shapes) expectFit({ mechanism, options }, layer);
      const weights = mechanism.initialise
        ? overlay(model.weights, await initialised(mechanism, options, model, shapes, context))
        : model.weights;
      const attention = { kind, ...options };
      return {
        ...model,
        weights,
        config: {
          ...model.config,
          layers: model.config.layers.map((layer, i) =>
            chosen.includes(i) ? { ...layer, attention } : layer,
          ),
        },
      };
    },
  };
}

/** One step for each mechanism. */
export const attentionSteps: readonly StepDefinition<Options>[] = MECHANISMS.map(stepOf);

async function initialised(
  mechanism: Mechanism,
  options: Readonly<Record<string, unknown>>,
  model: Model,
  layers: readonly LayerShape[],
  context: StepContext,
): Promise<Map<string, Weight | null>> {
  if (mechanism.needs.calibration && !context.calibrate)
    throw new AttenuateError(
      'CALIBRATION_MISSING',
      `[attention] ${mechanism.kind} is made from what your text looks like inside the model: expected calibration text, got none. Pass it with --calibrate, or calibrate to applyRecipe.`,
      { kind: mechanism.kind },
    );
  const calibration = context.calibrate ? onceAsked(context.calibrate, model) : null;
  const out = new Map<string, Weight | null>();
  for (const layer of layers) {
    const prefix = names.layer(layer.index).attention;
    const weight = async (name: string) => {
      const found = await model.weights.read(`${prefix}.${name}`);
      const scale = await inputScaleOf(model.weights, `${prefix}.${name}`);
      const data = decode(found);
      return { shape: found.shape, data: scale ? byColumns(data, scale) : data };
    };
    const made: Initialised = await mechanism.initialise!({ layer, weight, calibration }, options as never);
    for (const [name, tensor] of made) {
      const full = `${prefix}.${name}`;
      if (!tensor) {
        for (const gone of [full, ...companionsOf(model.weights.specs, full)]) out.set(gone, null);
        continue;
      }
      // What takes the place of a matrix of integers is one too: floats are not stacked with them in one product.
      const before = model.weights.specs.get(full);
      const spec: WeightSpec =
        !tensor.codec && before && !isFloat(before.codec)
          ? { ...before, shape: tensor.shape }
          : { codec: tensor.codec ?? 'float32', shape: tensor.shape };
      const scale = await inputScaleOf(model.weights, full);
      const data = scale
        ? byColumns(
            tensor.data,
            scale.map((t) => 1 / t),
          )
        : tensor.data;
      out.set(full, encode(spec, data));
    }
  }
  return out;
}

/** Calibrates when a layer is first looked at: most mechanisms look at none. */
function onceAsked(calibrate: NonNullable<StepContext['calibrate']>, model: Model): Calibration {
  let made: Promise<Calibration> | null = null;
  return {
    async *layer(index) {
      made ??= calibrate(model);
      yield* (await made).layer(index);
    },
  };
}
