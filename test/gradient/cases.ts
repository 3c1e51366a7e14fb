import { meanSquaredError, weightedSum } from '../../src/program/gradient/losses.ts';
import { EXPANSIONS, RULES } from '../../src/program/gradient/rules.ts';
import type { Program } from '../../src/program/program.ts';
import { traceOn } from '../../src/program/trace.ts';
import { evaluateDim } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';
import { type BuiltCase, buildCase, CASES, type ConformanceCase } from '../conformance/cases.ts';
import { lossCases } from './loss-cases.ts';

export interface GradientCase {
  readonly op: string;
  readonly name: string;
  readonly built: BuiltCase;
}

/** Most float values of a case: finite differences run its reference many times. */
const MOST = 60_000;
/**
 * Cases at points where there is no derivative or where differences of float64 cannot show it, and one whose residual
 * has something in columns that only pad.
 */
const NO_DERIVATIVE =
  /large|denormal|zero|constant|negative alone|relu: every|magnitudes|both ends|heads with a residual|of 1e4|scores of 1e8|small queries|tiny weights|behind the length/;

const size = ({ inputs, weights }: BuiltCase): number =>
  Object.values(inputs).reduce((n, x) => n + x.length, 0) +
  [...weights.values()].reduce((n, w) => n + w.bytes.length / 4, 0);

/** Training holds its weights so, whatever they came from. */
const isMaster = ({ codec }: { readonly codec: string }): boolean => codec === 'float32';

/** Score expressions with an absolute value of the score, or a bound on it: those say that they have no gradient. */
export const UNSMOOTH = /every leaf|all over|two key heads|blocks of|see nothing|keeps nothing/;

/** A step has no derivative: what stands for it is not what differences show. */
const STEPS = ['spikingAttention'];

/** So many rows choose among so many keys that the step of a difference changes some row's choice. */
const JUMPS = /topK, forty of many/;

const standsIn = ({ op, name }: ConformanceCase): boolean => STEPS.includes(op) || JUMPS.test(name);

const hasDerivative = (c: ConformanceCase): boolean =>
  !standsIn(c) && !NO_DERIVATIVE.test(c.name) && !(c.op === 'scoredAttention' && UNSMOOTH.test(c.name));

/** Inputs that an op takes as data, whatever stands before them. */
const DATA: Readonly<Record<string, readonly string[]>> = {
  softCrossEntropy: ['b'],
  pairLoss: ['tq', 'tk'],
};

/** The conformance cases of every op that has a gradient, where it has one, and those of the losses. */
export const gradientCases = (): GradientCase[] => [
  ...opCases(),
  ...lossCases.map((c) => ({ op: c.op, name: c.name, built: c.build(new Random(3)) })),
];

/** Cases whose gradient stands for one, or that lie next to a jump: kernels are held to the reference, and nothing to finite differences. */
export const surrogateCases = (): GradientCase[] =>
  CASES.filter(standsIn).map((c) => ({ op: c.op, name: c.name, built: buildCase(c) }));

const opCases = (): GradientCase[] =>
  CASES.filter(
    (c: ConformanceCase) =>
      c.finite && !c.codes && (RULES.has(c.op) || EXPANSIONS.has(c.op)) && hasDerivative(c),
  )
    .map((c) => ({ op: c.op, name: c.name, built: buildCase(c) }))
    .filter(({ built }) => size(built) <= MOST && [...built.weights.values()].every(isMaster));

/** The case with a loss on top: the distance of every float output from a random target. */
export function withLoss({ op, built }: GradientCase, random: Random) {
  const { program, inputs, bindings, weights } = built;
  const targets: Record<string, Float32Array> = {};
  const whole: Program = traceOn(program, weights, (t) => {
    const losses = program.outputs
      // Counts have no gradient.
      .filter(({ dtype, name }) => dtype === 'float32' && !/\.(spikes|support)$/.test(name))
      .map((y, i) => {
        const shape = y.shape.map((d) => evaluateDim(d, bindings));
        targets[`target${i}`] = random.gaussians(shape.reduce((a, b) => a * b, 1));
        return meanSquaredError(t, y, t.input(`target${i}`, 'float32', y.shape));
      });
    t.output(
      weightedSum(
        t,
        losses,
        losses.map(() => 1),
      ),
    );
  });
  const floats = Object.keys(inputs).filter(
    (name) => inputs[name] instanceof Float32Array && !DATA[op]?.includes(name),
  );
  return { whole, inputs: { ...inputs, ...targets }, floats };
}
