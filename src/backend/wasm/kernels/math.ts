import type { Activation } from '../../../program/ops/activation.ts';
import type { FunctionBuilder } from '../assembler.ts';
import { f32x4, i32x4, type V128, v128 } from '../instructions.ts';
import { type Features, multiplyAdd } from './kernel.ts';

/** Minimax fits by Lawson's iteration: 2^f on [−½, ½] to 9e-8 relative; erf(u)/u in u² on [0, 4] to 3e-8 relative. */
const EXP2 = [
  1, 0.6931470036506653, 0.24022242426872253, 0.05550733581185341, 0.009671512991189957, 0.001326472731307149,
];
const ERF_NUMERATOR = [
  1.1283791065216064, 0.19354471564292908, 0.05310167744755745, 0.003883322235196829, 0.00028456433210521936,
  1.986771849260549e-6,
];
const ERF_DENOMINATOR = [
  1, 0.5048571228981018, 0.11534983664751053, 0.015207209624350071, 0.0011855637421831489,
  3.7419980799313635e-5,
];
/** The sixteenth root of 1 / Φ(−t) for t ≥ 0: t · Φ(−t) to 2e-7. */
const TAIL_ROOT = [
  1.0442748069763184, 0.05206397920846939, 0.02211371622979641, 0.0033705108799040318, 0.00007532217568950728,
  0.000039649221434956416, 0.000006988013865338871,
];
// `pmin` and `pmax` are one instruction where `min` and `max` are several, and keep a NaN in their first operand.

/** Adding 1.5·2²³ rounds a float to the nearest whole, which then stands in the low bits. */
export const ROUNDING = 12582912;

function polynomial(f: FunctionBuilder, features: Features, coefficients: readonly number[], x: V128): V128 {
  const madd = multiplyAdd(features);
  return coefficients
    .slice(0, -1)
    .reduceRight<V128>((sum, c) => madd(sum, x, f.constant(c)), f.constant(coefficients.at(-1)!));
}

/**
 * 2^x for x from −126 to 127; 0 from −127 down: what is masked has to weigh nothing at all, for sums of what is nearly
 * nothing are denormal, and some processors take a hundred times as long over those. NaN stays NaN.
 */
export function exp2(f: FunctionBuilder, features: Features, x: V128): V128 {
  const clamped = f.local('v128', f32x4.pmax(x, f.constant(-127)));
  const whole = f.local('v128', f32x4.add(clamped, f.constant(ROUNDING)));
  const fraction = f.local('v128', f32x4.sub(clamped, f32x4.sub(whole, f.constant(ROUNDING))));
  return i32x4.add(
    polynomial(f, features, EXP2, fraction),
    i32x4.shl(whole, { type: 'i32', code: [0x41, 23] }),
  );
}

export function erf(f: FunctionBuilder, features: Features, x: V128): V128 {
  const u = f.local('v128', f32x4.pmin(f32x4.pmax(x, f.constant(-4)), f.constant(4)));
  const square = f.local('v128', f32x4.mul(u, u));
  return f32x4.div(
    f32x4.mul(u, polynomial(f, features, ERF_NUMERATOR, square)),
    polynomial(f, features, ERF_DENOMINATOR, square),
  );
}

/** tanh x = 1 − 2 / (e^2x + 1), saturated beyond ±15. */
export function tanh(f: FunctionBuilder, features: Features, x: V128): V128 {
  const clamped = f32x4.pmin(f32x4.pmax(x, f.constant(-15)), f.constant(15));
  const power = exp2(f, features, f32x4.mul(clamped, f.constant(2 * Math.LOG2E)));
  return f32x4.sub(f.constant(1), f32x4.div(f.constant(2), f32x4.add(power, f.constant(1))));
}

/** x · Φ(x) = max(x, 0) − |x| · Φ(−|x|): a sixteenth power costs four products, where erf costs another polynomial. */
function gelu(f: FunctionBuilder, features: Features, x: V128): V128 {
  const magnitude = f.local('v128', f32x4.pmin(f32x4.abs(x), f.constant(20)));
  const power = f.local('v128', polynomial(f, features, TAIL_ROOT, magnitude));
  for (let squarings = 0; squarings < 4; squarings++) f.set(power, f32x4.mul(power, power));
  return f32x4.sub(f32x4.pmax(x, v128.zero), f32x4.div(magnitude, power));
}

/** The activation of four values. */
export function activate(f: FunctionBuilder, features: Features, kind: Activation, x: V128): V128 {
  if (kind === 'none') return x;
  if (kind === 'relu') return f32x4.pmax(x, v128.zero);
  if (kind === 'tanh') return tanh(f, features, x);
  const value = f.local('v128', x);
  if (kind === 'gelu') return gelu(f, features, value);
  const half = f32x4.mul(value, f.constant(0.5));
  const inner = f32x4.mul(
    value,
    multiplyAdd(features)(
      f32x4.mul(value, value),
      f.constant(0.044715 * Math.sqrt(2 / Math.PI)),
      f.constant(Math.sqrt(2 / Math.PI)),
    ),
  );
  return multiplyAdd(features)(half, tanh(f, features, inner), half);
}
