import { runTraining } from '../../src/backend/reference/interpreter.ts';
import type { TrainingProgram } from '../../src/program/gradient/training-program.ts';
import type { Program } from '../../src/program/program.ts';
import { decode, type Weight } from '../../src/tensor/codec.ts';
import type { Bindings } from '../../src/tensor/dim.ts';
import type { Random } from '../../src/tensor/random.ts';

type Point = ReadonlyMap<string, Float64Array>;

export interface DirectionalDerivative {
  /** Σ gradient · direction. */
  readonly gradient: number;
  /** (loss(x + εd) − loss(x − εd)) / 2ε. */
  readonly difference: number;
  /** |gradient| · |direction|: what an error is measured by. */
  readonly scale: number;
}

/**
 * The derivative of a Program's loss along random directions, by its gradients and by differences of the Program that
 * it was made of, all in float64. `inputs` of the training Program that have a gradient move too.
 */
export function derivatives(
  whole: Program,
  { program, trainable, inputGradients }: TrainingProgram,
  weights: ReadonlyMap<string, Weight>,
  inputs: Readonly<Record<string, ArrayLike<number>>>,
  bindings: Bindings,
  random: Random,
  directions = 3,
): DirectionalDerivative[] {
  const point: Point = new Map([
    ...trainable.map(({ name }) => [name, Float64Array.from(decode(weights.get(name)!))] as const),
    ...[...inputGradients.keys()].map((name) => [name, Float64Array.from(inputs[name])] as const),
  ]);
  const split = (p: Point) => ({
    inputs: { ...inputs, ...Object.fromEntries([...p].filter(([name]) => inputGradients.has(name))) },
    floats: new Map([...p].filter(([name]) => !inputGradients.has(name))),
  });
  const at = split(point);
  const { outputs, gradients } = runTraining(
    program,
    weights,
    { lossScale: [1], ...at.inputs },
    bindings,
    at.floats,
  );
  [...inputGradients].forEach(([name, value]) => {
    gradients.set(name, outputs[program.outputs.indexOf(value)]);
  });
  const lossAt = (p: Point): number => {
    const { inputs: x, floats } = split(p);
    return runTraining(whole, weights, x, bindings, floats).outputs[0][0];
  };
  return Array.from({ length: directions }, () => {
    const direction = new Map(
      [...point].map(([name, x]) => {
        const d = Float64Array.from(random.gaussians(x.length));
        // What is exactly 0 only pads a head: nothing reads it.
        return [name, inputGradients.has(name) ? d.map((v, i) => (x[i] === 0 ? 0 : v)) : d];
      }),
    );
    const moved = (by: number): Point =>
      new Map([...point].map(([name, x]) => [name, x.map((v, i) => v + by * direction.get(name)![i])]));
    let [gradient, squares] = [0, 0];
    for (const [name, d] of direction)
      d.forEach((v, i) => {
        const g = gradients.get(name)?.[i] ?? 0;
        gradient += g * v;
        squares += g * g;
      });
    const epsilon = 1e-6;
    return {
      gradient,
      difference: (lossAt(moved(epsilon)) - lossAt(moved(-epsilon))) / (2 * epsilon),
      scale: Math.sqrt(squares),
    };
  });
}
