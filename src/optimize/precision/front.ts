import type { Model } from '../../model/config.ts';
import { artifactBytes } from './footprint.ts';
import type { Mixture } from './mixture.ts';
import type { CheckedOutputs } from './output-check.ts';
import type { Sensitivity, UnitSensitivity } from './sensitivity.ts';

/** One way of storing a model's weights: its size, and how far its outputs are from the float model's. */
export interface FrontPoint extends CheckedOutputs {
  readonly name: string;
  readonly kind: 'mixed' | 'uniform';
  readonly widths: Readonly<Record<string, string>>;
  readonly sizeBytes: number;
  /** Sum of what the weights lose one by one. */
  readonly predicted: number;
  readonly chosen: boolean;
}

/** Whether another point is no larger and loses no more, and one of both is less. */
export const dominated = (point: FrontPoint, others: readonly FrontPoint[]): boolean =>
  others.some(
    (other) =>
      other.sizeBytes <= point.sizeBytes &&
      other.measured.output <= point.measured.output &&
      (other.sizeBytes < point.sizeBytes || other.measured.output < point.measured.output),
  );

/** What a front is made with. */
export interface FrontTools {
  readonly sensitivity: Sensitivity;
  build(widths: ReadonlyMap<string, string>): Promise<Model>;
  /** The best mixture of a size. */
  choose(sizeBytes: number): Promise<Mixture>;
  check(model: Model): Promise<CheckedOutputs>;
  onProgress?(what: string, fraction: number): void;
}

/** Each weight in one width, or in the next wider one where it cannot be stored so. */
function uniformWidths(units: readonly UnitSensitivity[], width: string): Map<string, string> {
  return new Map(
    units.map(({ weight, widths }) => [
      weight,
      widths.some((found) => found.width === width)
        ? width
        : (widths.findLast(({ width: other }) => /^(int8|float)/.test(other))?.width ?? width),
    ]),
  );
}

/** Sum of what weights lose alone in these widths, activations of integer products included. */
export function predictedLoss(
  { units, activations }: Sensitivity,
  widths: ReadonlyMap<string, string>,
): number {
  let sum = 0;
  for (const { weight, widths: measured } of units)
    sum += measured.find(({ width }) => width === widths.get(weight))?.output ?? 0;
  for (const { stack, output } of activations)
    if (!/^float/.test(widths.get(stack) ?? 'float')) sum += output;
  return sum;
}

/**
 * Uniform widths, and mixtures at sizes between the narrowest and the widest of them: as many as asked for, and one at
 * the size of each uniform width.
 */
export async function measureFront(tools: FrontTools, count: number): Promise<FrontPoint[]> {
  const { sensitivity, build, choose, check } = tools;
  const names = [...new Set(sensitivity.units.flatMap(({ widths }) => widths.map(({ width }) => width)))];
  const uniforms = await Promise.all(
    names.map(async (name) => {
      const widths = uniformWidths(sensitivity.units, name);
      const model = await build(widths);
      return { name, widths, model, sizeBytes: artifactBytes(model) };
    }),
  );
  const sizes = uniforms.map(({ sizeBytes }) => sizeBytes);
  const [low, high] = [Math.min(...sizes), Math.max(...sizes)];
  const between = Array.from({ length: count }, (_, i) => low * (high / low) ** ((i + 1) / (count + 1)));
  const mixed = [...new Set([...sizes, ...between.map(Math.round)])].sort((a, b) => a - b);
  const points: FrontPoint[] = [];
  const total = uniforms.length + mixed.length;
  const add = async (
    point: Omit<FrontPoint, keyof CheckedOutputs | 'chosen' | 'predicted' | 'widths'>,
    model: Model,
    widths: ReadonlyMap<string, string>,
  ) => {
    tools.onProgress?.(point.name, points.length / total);
    points.push({
      ...point,
      widths: Object.fromEntries(widths),
      predicted: predictedLoss(sensitivity, widths),
      ...(await check(model)),
      chosen: false,
    });
  };
  for (const { name, sizeBytes, widths, model } of uniforms)
    await add({ name, kind: 'uniform', sizeBytes }, model, widths);
  for (const size of mixed) {
    const { widths, model, sizeBytes } = await choose(size);
    const same = points.some(
      (p) => p.sizeBytes === sizeBytes && p.predicted === predictedLoss(sensitivity, widths),
    );
    if (!same)
      await add(
        { name: `mixed, ${(sizeBytes / 1e6).toFixed(2)} MB`, kind: 'mixed', sizeBytes },
        model,
        widths,
      );
  }
  return points;
}
