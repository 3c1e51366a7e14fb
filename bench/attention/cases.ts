import { MECHANISMS } from '../../src/attention/all.ts';
import type { AttentionContext, LayerShape, Mechanism, Projection } from '../../src/attention/mechanism.ts';
import { parseOptions } from '../../src/attention/options.ts';
import { padHead } from '../../src/program/ops/linear.ts';
import type { Program } from '../../src/program/program.ts';
import { trace } from '../../src/program/trace.ts';
import { elements, encode, type Weight } from '../../src/tensor/codec.ts';
import { symbol } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';
import { HEADS } from './inputs.ts';

/** The order in which queries, keys and values are stacked. */
const PARTS: readonly Projection[] = ['query', 'key', 'value'];

/** One mechanism at one head size, alone: queries, keys and values come from outside, as a product would leave them. */
export interface AttentionCase {
  /** `<mechanism>-d<D>`, to which `-n<n>` is added. */
  readonly id: string;
  readonly mechanism: Mechanism;
  readonly options: Readonly<Record<string, unknown>>;
  readonly headSize: number;
  /** Why this mechanism cannot run at this length; null when it can. */
  readonly refusal: string | null;
  readonly program: Program;
  readonly weights: ReadonlyMap<string, Weight>;
  /** Inputs that the program asks for. */
  readonly inputs: Readonly<Record<string, Float32Array | Int32Array>>;
}

/** Every row of every mechanism's own benchmark options. */
export function variants(): { name: string; mechanism: Mechanism; options: Record<string, unknown> }[] {
  return MECHANISMS.flatMap((mechanism) =>
    Object.entries(mechanism.bench).map(([name, given]) => ({
      name,
      mechanism,
      options: parseOptions(mechanism.kind, mechanism.options, given as Record<string, unknown>),
    })),
  );
}

await Promise.all(variants().map(({ mechanism, options }) => mechanism.prepare?.(options as never)));

export function attentionCase(
  { name, mechanism, options }: ReturnType<typeof variants>[number],
  headSize: number,
  n: number,
  qkv: Float32Array,
): AttentionCase {
  const C = HEADS * headSize;
  const layer: LayerShape = { index: 0, inputSize: C, heads: HEADS, headSize, maxLength: n };
  const refusal = mechanism.refuse?.(layer, options as never) ?? null;
  const weights = new Map<string, Weight>();
  const random = new Random(9);
  const inputs: Record<string, Float32Array | Int32Array> = { lengths: Int32Array.of(n) };
  const [B, N] = [symbol('B'), symbol('N')];
  const size = n * padHead(headSize) * HEADS;
  const traced = trace(weights, (t) => {
    if (refusal) return;
    const need = (weight: string, shape: readonly number[]) => {
      if (!weights.has(weight))
        weights.set(
          weight,
          encode('float32', shape, random.gaussians(elements(shape), 1 / Math.sqrt(shape.at(-1)!))),
        );
      return t.parameter(weight, shape);
    };
    const lengths = t.input('lengths', 'int32', [B]);
    const x = t.input('x', 'float32', [B, N, C]);
    const context: AttentionContext = {
      t,
      layer,
      x,
      lengths,
      project(parts, keyHeads = HEADS) {
        const counts = parts.map((part) => (part === 'query' ? HEADS : keyHeads));
        const input = `projected:${parts.join()}`;
        const from = (part: Projection) => PARTS.indexOf(part) * size;
        if (keyHeads === HEADS)
          inputs[input] = qkv.subarray(from(parts[0]), from(parts[0]) + parts.length * size);
        else {
          // The first heads of keys and values stand for those that groups share.
          const slices = parts.map((part, i) =>
            qkv.subarray(from(part), from(part) + (size / HEADS) * counts[i]),
          );
          const joined = new Float32Array(slices.reduce((sum, slice) => sum + slice.length, 0));
          slices.reduce((at, slice) => {
            joined.set(slice, at);
            return at + slice.length;
          }, 0);
          inputs[input] = joined;
        }
        return t.input(input, 'float32', [counts.reduce((a, b) => a + b), B, N, padHead(headSize)]);
      },
      parameter(weight, shape) {
        if (!shape) throw new Error(`[bench] ${mechanism.kind} does not say the shape of ${weight}`);
        return need(weight, shape);
      },
    };
    t.output(mechanism.lower(context, options as never));
  });
  // What nobody reads would only cost time to hand over.
  const read = new Set(traced.nodes.flatMap((node) => node.inputs));
  const program: Program = { ...traced, inputs: traced.inputs.filter((value) => read.has(value)) };
  if (program.inputs.some((value) => value.name === 'x')) inputs.x = new Random(6).gaussians(n * C);
  return { id: `${name}-d${headSize}`, mechanism, options, headSize, refusal, program, weights, inputs };
}
