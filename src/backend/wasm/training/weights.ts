import type { Parameter } from '../../../program/program.ts';
import { elements } from '../../../tensor/codec.ts';
import type { Features } from '../kernels/kernel.ts';
import type { Lowering } from '../lowering.ts';
import { placeWeights, type WeightMap } from '../weights.ts';

/**
 * Weights as they are, float32, in one place of memory: the frozen ones, then four blocks of one layout, which are
 * the trained ones, their gradients and their two moments.
 */
export interface TrainingWeights extends WeightMap {
  /** Bytes of zeros that stand for a row that is not there. */
  readonly zeros: number;
  /** First weight of the block, and bytes of a block. */
  readonly block: number;
  readonly blockBytes: number;
}

const align = (n: number): number => (n + 63) & ~63;

export function placeTrainingWeights(
  trainable: readonly Parameter[],
  frozen: readonly Parameter[],
  features: Features,
  base: number,
): TrainingWeights {
  const raw = new Map<string, number>();
  let end = align(base);
  const take = (bytes: number): number => {
    const at = end;
    end = align(end + bytes);
    return at;
  };
  const widest = [...trainable, ...frozen].reduce((n, p) => Math.max(n, p.shape.at(-1) ?? 1), 64);
  const zeros = take((widest + 16) * 4);
  for (const p of frozen) raw.set(p.name, take(elements(p.shape) * 4));
  const block = end;
  for (const p of trainable) raw.set(p.name, take(elements(p.shape) * 4));
  const blockBytes = end - block;
  const none = placeWeights({ inputs: [], outputs: [], nodes: [], stages: [] }, features, base);
  return { ...none, raw, zeros, block, blockBytes, end: block + 4 * blockBytes };
}

const mapOf = (lowering: Lowering): TrainingWeights => lowering.weights as TrainingWeights;

export const zerosOf = (lowering: Lowering): number => mapOf(lowering).zeros;

/** Bytes from a weight to its gradient: 1, to its moments: 2 and 3 blocks. */
export const blockBytesOf = (lowering: Lowering): number => mapOf(lowering).blockBytes;

/** Address of a parameter's gradient. */
export const gradientOf = (lowering: Lowering, parameter: Parameter): number =>
  lowering.weight(parameter) + blockBytesOf(lowering);
