import { padHead } from '../../src/program/ops/linear.ts';
import { Random } from '../../src/tensor/random.ts';

export const HEADS = 12;

/** Queries, keys and values `[3H, n, D′]` of unit variance, the same for every mechanism and in every process. */
export function stackedInput(headSize: number, n: number): Float32Array {
  return new Random(4 + headSize).gaussians(3 * HEADS * n * padHead(headSize));
}
