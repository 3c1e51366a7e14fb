import { z } from 'zod';
import type { LayerSpec, Model } from '../../model/config.ts';
import { decode, encode, isFloat } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { StepDefinition } from '../step.ts';

const schema = z.strictObject({
  step: z.literal('share'),
  kind: z.literal('layers'),
  /** Neighbouring layers that use one set of weights. */
  every: z.int().min(2).max(1000),
  /** What the one set begins as: the mean of the layers that share it, or the first of them. */
  from: z.enum(['mean', 'first']).default('mean'),
});
type Options = z.infer<typeof schema>;

/**
 * Cross-layer sharing: `every` neighbouring layers use one set of weights, which the file holds once (ALBERT; Lan et
 * al. 2020, section 3.1). It saves bytes and memory, not arithmetic; a model that was not trained so needs training
 * afterwards.
 */
export const shareLayers: StepDefinition<Options> = {
  step: 'share',
  variant: { option: 'kind', value: 'layers' },
  summary: 'neighbouring layers use one set of weights; wants training afterwards',
  schema,
  apply(model, { every, from }) {
    const { layers } = model.config;
    const shared = layers.map((layer, i): LayerSpec => {
      const owner = i - (i % every);
      if (owner === i) return layer;
      expectAlike(layers[owner], layer, i);
      return { ...layer, attention: layers[owner].attention, sharedWith: owner };
    });
    return {
      ...model,
      config: { ...model.config, layers: shared },
      weights: from === 'mean' ? meansOf(model, shared) : withoutShared(model, shared),
    };
  },
};

/** Store names of layer `i` become those of its owner: `layers.3.x` → `layers.2.x`. */
const renamed = (name: string, to: number): string => name.replace(/^layers\.\d+\./, `layers.${to}.`);
const layerOfName = (name: string): number | null => {
  const match = /^layers\.(\d+)\./.exec(name);
  return match ? Number(match[1]) : null;
};

function withoutShared({ weights }: Model, layers: readonly LayerSpec[]): Model['weights'] {
  const gone = (name: string) => {
    const layer = layerOfName(name);
    return layer !== null && layers[layer].sharedWith !== undefined;
  };
  return {
    specs: new Map([...weights.specs].filter(([name]) => !gone(name))),
    read: (name) => weights.read(name),
    close: weights.close && (() => weights.close!()),
  };
}

/** Each owner's weight read as the mean over the layers that share it. */
function meansOf(model: Model, layers: readonly LayerSpec[]): Model['weights'] {
  const own = withoutShared(model, layers);
  const sharers = (owner: number) =>
    layers.flatMap(({ sharedWith }, i) => (i === owner || sharedWith === owner ? [i] : []));
  return {
    ...own,
    async read(name) {
      const first = await own.read(name);
      const owner = layerOfName(name);
      const members = owner === null ? [] : sharers(owner);
      if (members.length < 2 || !isFloat(first.codec)) return first;
      const sum = Float64Array.from(decode(first));
      for (const member of members.slice(1))
        decode(await model.weights.read(renamed(name, member))).forEach((x, i) => {
          sum[i] += x;
        });
      const spec = { codec: 'float32', shape: first.shape } as const;
      return encode(
        spec,
        Float32Array.from(sum, (x) => x / members.length),
      );
    },
    specs: new Map(
      [...own.specs].map(([name, spec]) => {
        const owner = layerOfName(name);
        const mean = owner !== null && sharers(owner).length > 1 && isFloat(spec.codec);
        return [name, mean ? { codec: 'float32', shape: spec.shape } : spec];
      }),
    ),
  };
}

function expectAlike(a: LayerSpec, b: LayerSpec, index: number): void {
  const sizes = ({ inputSize, outputSize, heads, headSize, feedForwardSize }: LayerSpec) =>
    [inputSize, outputSize, heads, headSize, feedForwardSize].join('×');
  if (sizes(a) !== sizes(b) || a.sharedWith !== undefined || b.sharedWith !== undefined)
    throw new AttenuateError(
      'SHARE_LAYERS',
      `[share] layers that cannot share weights: expected sizes ${sizes(a)} and weights of its own in layer ${index}, got ${sizes(b)}. Choose another "every".`,
      { layer: index },
    );
}
