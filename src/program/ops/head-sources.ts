import { type Dim, equalDims, formatShape } from '../../tensor/dim.ts';
import { shapeError } from '../op.ts';
import type { Value } from '../program.ts';
import type { Heads } from './attention.ts';
import { padHead } from './linear.ts';

/** Where rows by head stand among a node's inputs. */
export interface HeadPlace {
  readonly input: number;
  readonly from: number;
}

/** Queries, keys and values that an op of one state per head reads. */
export interface HeadSources {
  readonly queries: Heads;
  readonly keys: Heads;
  readonly values: Heads;
  /** Keys from `lengths[b]` on are not there, `[B]`; without it every key is. */
  readonly lengths?: Value;
}

export interface HeadPlaces {
  readonly inputs: readonly Value[];
  readonly queries: HeadPlace;
  readonly keys: HeadPlace;
  readonly values: HeadPlace;
  /** Index of the input that holds the lengths, or null. */
  readonly lengths: number | null;
  /** Sequences, and rows of queries. */
  readonly B: Dim;
  readonly N: Dim;
}

/**
 * Gathers the inputs of such an op, each once.
 * @throws `SHAPE_MISMATCH` unless each source has `heads` heads of `headSize` columns, and as many values as keys
 */
export function placeHeads(op: string, sources: HeadSources, heads: number, headSize: number): HeadPlaces {
  const inputs: Value[] = [];
  const indexOf = (value: Value) => {
    const known = inputs.indexOf(value);
    return known >= 0 ? known : inputs.push(value) - 1;
  };
  const place = (what: string, { value, from }: Heads): HeadPlace => {
    const held = value.shape[0]?.terms.get('') ?? 0;
    if (value.shape.length !== 4 || !equalDims(value.shape[3], padHead(headSize)) || held < from + heads)
      throw shapeError(
        op,
        `${what} of another shape`,
        `at least ${from + heads} heads of rows of ${padHead(headSize)} columns`,
        formatShape(value.shape),
      );
    return { input: indexOf(value), from };
  };
  const [queries, keys, values] = [
    place('queries', sources.queries),
    place('keys', sources.keys),
    place('values', sources.values),
  ];
  const [key, value] = [sources.keys.value.shape, sources.values.value.shape];
  if (!equalDims(key[2], value[2]))
    throw shapeError(op, 'as many values as keys', formatShape(key), formatShape(value));
  const [B, N] = sources.queries.value.shape.slice(1, 3);
  const lengths = sources.lengths ? indexOf(sources.lengths) : null;
  return { inputs, queries, keys, values, lengths, B, N };
}
