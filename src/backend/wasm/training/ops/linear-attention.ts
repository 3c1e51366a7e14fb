import type { AddHeadsNode, MaskRowsNode } from '../../../../program/gradient/add-heads.ts';
import type {
  FeaturesAttributes,
  FeaturesGradientNode,
  FeaturesNode,
} from '../../../../program/gradient/features.ts';
import type {
  DivideByLastGradientNode,
  DivideByLastNode,
  WithOnesNode,
  WithoutOnesNode,
} from '../../../../program/gradient/linear-attention.ts';
import { cosformerAngle } from '../../../../program/ops/feature-maps.ts';
import type { Value } from '../../../../program/program.ts';
import { elements } from '../../../../tensor/codec.ts';
import { type Lowering, type OpLowering, only } from '../../lowering.ts';
import type { FeatureVariant } from '../kernels/feature-rows.ts';
import { featuresKernel } from '../kernels/features.ts';
import { featuresGradientKernel } from '../kernels/features-gradient.ts';
import {
  addHeadsKernel,
  divideByLastKernel,
  maskRowsKernel,
  resizeRowsKernel,
} from '../kernels/head-rows.ts';

const variantOf = ({ map, keys }: FeaturesAttributes): string =>
  `${map.kind}:${map.kind === 'hedgehog' && map.normalise ? 1 : 0}:${keys ? 1 : 0}`;

function parse(text: string): FeatureVariant {
  const [kind, normalise, keys] = text.split(':');
  return { kind: kind as FeatureVariant['kind'], normalise: normalise === '1', keys: keys === '1' };
}

/** Bytes of one head of a value by head. */
const headBytes = (value: Value, { shape }: Lowering): number => elements(shape(value).slice(1)) * 4;

function featureFields(
  inputs: readonly Value[],
  attributes: FeaturesAttributes,
  phi: Value,
  lowering: Lowering,
) {
  const { map, from, size, projected, keys } = attributes;
  const { at, shape, table } = lowering;
  const [x, e] = inputs;
  const lengths = keys ? inputs[projected ? 2 : 1] : undefined;
  const [heads, B, N, count] = shape(phi);
  const angles =
    map.kind === 'cosformer'
      ? table(`angles:${map.maxLength}:${N}`, () => {
          const out = new Float32Array(2 * N);
          for (let n = 0; n < N; n++) {
            const angle = cosformerAngle(n, map.maxLength);
            out.set([Math.cos(angle), Math.sin(angle)], 2 * n);
          }
          return new Int32Array(out.buffer);
        })
      : 0;
  const fields = {
    x: at(x) + from * headBytes(x, lowering),
    e: projected ? at(e) : 0,
    phi: at(phi),
    lengths: lengths ? at(lengths) : 0,
    angles,
    B,
    N,
    size,
    pitch: shape(x)[3],
    m: projected ? shape(e)[3] : 0,
    count,
    epsilon: map.kind === 'performer' ? map.epsilon : 0,
  };
  return { fields, units: heads * B };
}

export const featuresLowering: OpLowering<FeaturesNode> = {
  kind: 'features',
  kernels: { features: (variant) => featuresKernel(parse(variant)) },
  keys: ({ attributes }) => [`features:${variantOf(attributes)}`],
  steps({ inputs, outputs: [phi], attributes }, lowering) {
    const { fields, units } = featureFields(inputs, attributes, phi, lowering);
    return [lowering.step(`features:${variantOf(attributes)}`, { ...fields, d: 0, dx: 0, de: 0 }, units, 1)];
  },
};

export const featuresGradientLowering: OpLowering<FeaturesGradientNode> = {
  kind: 'featuresGradient',
  kernels: { featuresGradient: (variant) => featuresGradientKernel(parse(variant)) },
  keys: ({ attributes }) => [`featuresGradient:${variantOf(attributes)}`],
  steps({ inputs, outputs: [dx, de], attributes }, lowering) {
    const { at } = lowering;
    const [phi, d] = inputs.slice(-2);
    const { fields, units } = featureFields(inputs, attributes, phi, lowering);
    const all = { ...fields, d: at(d), dx: at(dx), de: de ? at(de) : 0 };
    return [lowering.step(`featuresGradient:${variantOf(attributes)}`, all, units, 1)];
  },
};

export const addHeadsLowering: OpLowering<AddHeadsNode> = {
  kind: 'addHeads',
  kernels: { addHeads: only(addHeadsKernel) },
  keys: () => ['addHeads'],
  steps({ inputs: [part, soFar], outputs: [y], attributes }, lowering) {
    const { at, shape, step } = lowering;
    const fields = {
      part: at(part),
      soFar: soFar ? at(soFar) : 0,
      y: at(y),
      from: attributes.from,
      heads: shape(part)[0],
      size: headBytes(y, lowering) / 4,
    };
    return [step('addHeads', fields, shape(y)[0])];
  },
};

export const maskRowsLowering: OpLowering<MaskRowsNode> = {
  kind: 'maskRows',
  kernels: { maskRows: only(maskRowsKernel) },
  keys: () => ['maskRows'],
  steps({ inputs: [x, lengths], outputs: [y], attributes: { from } }, lowering) {
    const { at, shape, step } = lowering;
    const [heads, B, N, columns] = shape(y);
    const fields = {
      x: at(x) + from * headBytes(x, lowering),
      y: at(y),
      lengths: at(lengths),
      B,
      N,
      columns,
    };
    return [step('maskRows', fields, heads * B)];
  },
};

const resize: Pick<OpLowering, 'kernels' | 'keys'> = {
  kernels: { resizeRows: only(resizeRowsKernel) },
  keys: () => ['resizeRows'],
};

export const withOnesLowering: OpLowering<WithOnesNode> = {
  ...resize,
  kind: 'withOnes',
  steps({ inputs: [v], outputs: [y], attributes: { from, size } }, lowering) {
    const { at, shape, step } = lowering;
    const [heads, B, N, to] = shape(y);
    const x = at(v) + from * headBytes(v, lowering);
    return [step('resizeRows', { x, y: at(y), from: shape(v)[3], to, size, one: 1 }, heads * B * N)];
  },
};

export const withoutOnesLowering: OpLowering<WithoutOnesNode> = {
  ...resize,
  kind: 'withoutOnes',
  steps({ inputs: [dy], outputs: [y], attributes: { size } }, { at, shape, step }) {
    const [from, to] = [shape(dy)[3], shape(y)[3]];
    return [step('resizeRows', { x: at(dy), y: at(y), from, to, size, one: 0 }, elements(shape(y)) / to)];
  },
};

export const divideByLastLowering: OpLowering<DivideByLastNode> = {
  kind: 'divideByLast',
  kernels: { divideByLast: only(divideByLastKernel(false)) },
  keys: () => ['divideByLast'],
  steps({ inputs: [x], outputs: [o], attributes: { size: D } }, { at, shape, step }) {
    const [H, B, N, W] = shape(x);
    const fields = { x: at(x), o: at(o), dy: 0, dx: 0, rows: B * N, H, D, W };
    return [step('divideByLast', fields, H * B * N)];
  },
};

export const divideByLastGradientLowering: OpLowering<DivideByLastGradientNode> = {
  kind: 'divideByLastGradient',
  kernels: { divideByLastGradient: only(divideByLastKernel(true)) },
  keys: () => ['divideByLastGradient'],
  steps({ inputs: [x, o, dy], outputs: [dx], attributes: { size: D } }, { at, shape, step }) {
    const [H, B, N, W] = shape(x);
    const fields = { x: at(x), o: at(o), dy: at(dy), dx: at(dx), rows: B * N, H, D, W };
    return [step('divideByLastGradient', fields, H * B * N)];
  },
};

/** Lowerings of linear attention in parts. */
export const linearAttentionLowerings = [
  addHeadsLowering,
  divideByLastGradientLowering,
  divideByLastLowering,
  featuresGradientLowering,
  featuresLowering,
  maskRowsLowering,
  withOnesLowering,
  withoutOnesLowering,
] as unknown as readonly OpLowering[];
