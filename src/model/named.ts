import { layerNorm } from '../program/ops/layer-norm.ts';
import { type LinearOptions, linear } from '../program/ops/linear.ts';
import type { Value } from '../program/program.ts';
import type { Tracer } from '../program/trace.ts';

/** A product by the matrix and bias of a name. */
export const dense = (
  t: Tracer,
  x: Value,
  name: string,
  shape: [number, number],
  options: LinearOptions = {},
): Value =>
  linear(t, x, [t.parameter(`${name}.weight`, shape)], [t.parameter(`${name}.bias`, [shape[0]])], options);

/** LayerNorm by the scale and bias of a name. */
export const norm = (t: Tracer, x: Value, name: string, size: number, epsilon: number): Value =>
  layerNorm(t, x, t.parameter(`${name}.scale`, [size]), t.parameter(`${name}.bias`, [size]), epsilon);
