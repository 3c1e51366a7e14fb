import { z } from 'zod';
import { ROLES, type Role } from '../../model/roles.ts';
import { layersSchema } from '../layers.ts';
import { OBSERVERS } from './input-range.ts';

const share = () => z.number().min(0).max(1);

/** Bits of a code; `ternary` and `binary` have no whole number of their own in which they are usually named. */
const BITS = [16, 8, 4, 2, 'ternary', 'binary'] as const;
export type Bits = (typeof BITS)[number];

export const quantizeSchema = z
  .strictObject({
    step: z.literal('quantize'),
    /** Of every product that nothing else is said about; without it only those of `mixed` and `embeddings` change. */
    bits: z.literal(BITS).optional(),
    /**
     * How codes are chosen: each to the nearest (`rtn`); the same once large inputs are smoothed into the weights
     * (`smoothquant`) or weights that meet large inputs are scaled up (`awq`); so that the product's output changes
     * least (`gptq`). All but `rtn` need text.
     */
    method: z.enum(['rtn', 'smoothquant', 'gptq', 'awq']).default('rtn'),
    /** Columns that share a scale; default 32 for 4 and 2 bits where that divides the columns, else the whole row. */
    groupSize: z.union([z.literal([32, 64, 128]), z.literal('row')]).optional(),
    scheme: z.enum(['symmetric', 'affine']).optional(),
    scaleType: z.enum(['float16', 'float32']).optional(),
    /** Scales by the largest value, or by the least squared error; default `max` for 8 bits, `mse` below. */
    clipping: z.enum(['max', 'mse']).optional(),
    /** Ternary scales: of the least squared error (default), by TWN's threshold, or BitNet b1.58's mean magnitude. */
    ternary: z.enum(['mse', 'twn', 'absmean']).optional(),
    /** The word table: int8 or not at all, or a width such as `int4-g32`, which takes the position and type tables to int8 too. */
    embeddings: z.union([z.boolean(), z.string()]).default(true),
    head: z.boolean().default(true),
    layers: layersSchema.default('all'),
    /** Only products of these roles. */
    roles: z
      .array(z.enum(ROLES as [Role, ...Role[]]))
      .min(1)
      .optional(),
    /** Widths by hand: of a weight, a role, or a /regular expression/; the last that matches counts, before all else. */
    mixed: z.record(z.string(), z.string()).optional(),
    /**
     * Inputs of products in 8 bits by each row's own range (`dynamic`), by one range found on text (`static`), or in
     * one bit by mean and mean magnitude (`binary`, with binary weights alone).
     */
    activations: z.enum(['dynamic', 'static', 'binary']).default('dynamic'),
    /** How `static` finds the range. Default `mse`. */
    observer: z.enum(OBSERVERS).optional(),
    /** SmoothQuant's α, or the α of the least output error for each input; for `smoothquant` (default) and `gptq`. */
    smoothing: z.union([share(), z.literal('search')]).optional(),
    /** Biases take up what rounding changes on average. */
    biasCorrection: z.boolean().default(false),
    /** GPTQ: see `GptqOptions`. */
    order: z.enum(['columns', 'activation', 'groups']).optional(),
    damping: z.number().positive().max(1).optional(),
  })
  .superRefine((step, context) => {
    const wrong = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message });
    if (step.bits === undefined && !step.mixed && typeof step.embeddings !== 'string')
      wrong('bits', `one of ${BITS.join(', ')}, or "mixed", or "embeddings" with a width`);
    if (step.observer && step.activations !== 'static') wrong('observer', 'only with "activations":"static"');
    if (step.smoothing !== undefined && step.method !== 'smoothquant' && step.method !== 'gptq')
      wrong('smoothing', 'only with "method":"smoothquant" or "gptq"');
    if ((step.order || step.damping !== undefined) && step.method !== 'gptq')
      wrong(step.order ? 'order' : 'damping', 'only with "method":"gptq"');
    if (step.activations === 'binary' && step.bits !== 'binary')
      wrong('activations', '"binary" only with "bits":"binary"');
    if (
      step.activations === 'binary' &&
      (step.method === 'smoothquant' || step.method === 'awq' || step.smoothing !== undefined)
    )
      wrong('activations', '"binary" only with "method":"rtn" or "gptq": signs cannot be scaled');
  });

export type QuantizeOptions = z.infer<typeof quantizeSchema>;

/** Whether a step can do without text. */
export const needsText = ({ method, activations, biasCorrection }: QuantizeOptions): boolean =>
  method !== 'rtn' || activations !== 'dynamic' || biasCorrection;
