import { type Dim, dim, equalDims, formatShape } from '../../tensor/dim.ts';
import { keptPairs } from '../mask/block-mask.ts';
import { evaluateMask, type MaskExpression } from '../mask/expression.ts';
import { expectFloat, type OpDefinition, type ReferenceContext, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { padHead } from './linear.ts';

/** Rows by head, `[heads …, B, N, D′]` (D′ = D padded to 8), from head `from` of a value on. */
export interface Heads {
  readonly value: Value;
  readonly from: number;
}
/** Rows by head that are weights, `[heads …, S, D′]`: the same for every sequence. */
export interface ParameterHeads {
  readonly parameter: Parameter;
  readonly from: number;
}

export interface AttentionSources {
  readonly queries: Heads | ParameterHeads;
  readonly keys: Heads | ParameterHeads;
  readonly values: Heads;
  /** Keys from `lengths[b]` on are not there, `[B]`; without it every key is. */
  readonly lengths?: Value;
}

/** Where a source stands among a node's inputs or parameters. */
type Place =
  | { readonly input: number; readonly from: number }
  | { readonly parameter: number; readonly from: number };

export interface AttentionOptions {
  readonly heads: number;
  /** Heads of keys and values, a divisor of `heads`: query head h reads key head ⌊h · keyHeads / heads⌋. Default `heads`. */
  readonly keyHeads?: number;
  /** Columns of a value row. */
  readonly headSize: number;
  /** Columns of query and key rows. Default `headSize`. */
  readonly keySize?: number;
  readonly scale: number;
  /** Which pairs (query, key) may meet; null: all. */
  readonly mask?: MaskExpression | null;
  /** Queries and keys of one block of the BlockMask. Default 64 and 64. */
  readonly blocks?: { readonly query: number; readonly key: number };
  /** Whether to give each row's statistics too: its largest score, and the sum of exp(score − largest). */
  readonly statistics?: boolean;
}

export interface AttentionAttributes {
  readonly heads: number;
  readonly keyHeads: number;
  readonly headSize: number;
  readonly keySize: number;
  readonly scale: number;
  readonly mask: MaskExpression | null;
  readonly blocks: { readonly query: number; readonly key: number };
  readonly statistics: boolean;
  readonly queries: Place;
  readonly keys: Place;
  readonly values: Place & { readonly input: number };
  /** Index of the input that holds the lengths, or null. */
  readonly lengths: number | null;
}
export type AttentionNode = Node<'attention', AttentionAttributes>;

const BLOCKS = { query: 64, key: 64 } as const;

/** Queries, keys and values that one product stacked, `[heads + 2 · keyHeads, B, N, D′]`. */
export const stacked = (
  qkv: Value,
  heads: number,
  keyHeads = heads,
): Pick<AttentionSources, 'queries' | 'keys' | 'values'> & { queries: Heads; keys: Heads } => ({
  queries: { value: qkv, from: 0 },
  keys: { value: qkv, from: heads },
  values: { value: qkv, from: heads + keyHeads },
});

/**
 * Scaled dot-product attention (Vaswani et al. 2017, section 3.2) over the pairs that `mask` keeps and keys
 * before `lengths[b]`. Gives `[B, N, H·D]`; with `statistics` also `[H, B, N, 2]`. A row with no key is 0, and
 * its statistics are (−∞, 0).
 * @throws `SHAPE_MISMATCH` for sources that do not belong together
 */
export function attention(t: Tracer, sources: AttentionSources, options: AttentionOptions): Value[] {
  return t.emit('attention', attentionNode(sources, options));
}

/** All of an attention node but its kind: what an op of the same sources adds to. @throws `SHAPE_MISMATCH` */
export function attentionNode(sources: AttentionSources, options: AttentionOptions) {
  const { heads, headSize, scale } = options;
  const keyHeads = options.keyHeads ?? heads;
  const keySize = options.keySize ?? headSize;
  if (!(keyHeads >= 1 && heads % keyHeads === 0))
    throw shapeError(
      'attention',
      'heads that do not share keys evenly',
      `a divisor of ${heads}`,
      `${keyHeads}`,
    );
  const inputs: Value[] = [];
  const parameters: Parameter[] = [];
  const place = (what: string, source: Heads | ParameterHeads, count: number, size: number): Place => {
    const isParameter = 'parameter' in source;
    const shape: readonly Dim[] = (isParameter ? source.parameter : source.value).shape.map(dim);
    const last = shape.at(-1);
    const held = shape[0]?.terms.get('') ?? 0;
    if (
      shape.length !== (isParameter ? 3 : 4) ||
      !last ||
      !equalDims(last, padHead(size)) ||
      held < source.from + count
    )
      throw shapeError(
        'attention',
        `${what} of another shape`,
        `at least ${source.from + count} heads of rows of ${padHead(size)} columns`,
        formatShape(shape),
      );
    if (isParameter) {
      expectFloat('attention', source.parameter);
      return { parameter: indexIn(parameters, source.parameter), from: source.from };
    }
    return { input: indexIn(inputs, source.value), from: source.from };
  };
  const queries = place('queries', sources.queries, heads, keySize);
  const keys = place('keys', sources.keys, keyHeads, keySize);
  const values = place('values', sources.values, keyHeads, headSize) as AttentionAttributes['values'];
  const rowsOf = sources.queries;
  const [B, N] = 'value' in rowsOf ? rowsOf.value.shape.slice(1, 3) : sources.values.value.shape.slice(1, 3);
  if ('value' in sources.keys && !equalDims(sources.keys.value.shape[2], sources.values.value.shape[2]))
    throw shapeError(
      'attention',
      'as many values as keys',
      formatShape(sources.keys.value.shape),
      formatShape(sources.values.value.shape),
    );
  const lengths = sources.lengths ? indexIn(inputs, sources.lengths) : null;
  const outputs: [string, 'float32', Dim[]][] = [['o', 'float32', [B, N, dim(heads * headSize)]]];
  if (options.statistics) outputs.push(['statistics', 'float32', [dim(heads), B, N, dim(2)]]);
  const attributes: AttentionAttributes = {
    heads,
    keyHeads,
    headSize,
    keySize,
    scale,
    mask: options.mask ?? null,
    blocks: options.blocks ?? BLOCKS,
    statistics: options.statistics ?? false,
    queries,
    keys,
    values,
    lengths,
  };
  return { inputs, parameters, outputs, attributes, rowWise: false };
}

function indexIn<T>(list: T[], item: T): number {
  const at = list.indexOf(item);
  return at >= 0 ? at : list.push(item) - 1;
}

/** How to read one source of an attention node in the reference: the start of a row, and how many rows there are. */
export interface ReferenceRows {
  readonly data: Float64Array;
  readonly rows: number;
  at(head: number, b: number, n: number): number;
}

export function referenceRows(place: Place, { inputs, parameters }: ReferenceContext): ReferenceRows {
  const isParameter = 'parameter' in place;
  const { data, shape } = isParameter ? parameters[place.parameter] : inputs[place.input];
  const [rows, pitch] = shape.slice(-2);
  const B = isParameter ? 0 : shape[1];
  return {
    data,
    rows,
    at: (head, b, n) => (((place.from + head) * (B || 1) + (B ? b : 0)) * rows + n) * pitch,
  };
}

export const attentionOp: OpDefinition<AttentionNode> = {
  kind: 'attention',
  budget: { absolute: 2e-6, relative: 3e-6 },
  /** Pairs inside kept blocks; lengths shorter than N are not known here. */
  multiplyAdds({ attributes }, { inputs }) {
    const { heads, headSize, keySize, mask, blocks, values, queries } = attributes;
    const [, B, S] = inputs[values.input];
    const N = 'input' in queries ? inputs[queries.input][2] : S;
    const pairs = mask
      ? keptPairs(mask, { heads, queries: N, keys: S, queryBlock: blocks.query, keyBlock: blocks.key })
      : heads * N * S;
    return B * (headSize + keySize) * pairs;
  },
  reference: ({ attributes }, context) => attentionReference(attributes, context),
};

/** One row of queries: its head, its keys' head, its sequence, and the keys that it meets, in ascending order. */
export interface ReferenceRow {
  readonly h: number;
  readonly g: number;
  readonly b: number;
  readonly q: number;
  /** The first `count` are this row's. */
  readonly keys: Int32Array;
  readonly count: number;
  /** Where the row begins in `[B, N, H·D]`. */
  readonly to: number;
}

/** Every row of an op over pairs, for its reference. */
export function eachReferenceRow(
  { heads: H, keyHeads, headSize: D, mask, lengths: lengthsAt, values }: AttentionAttributes,
  { inputs, outputShapes }: ReferenceContext,
  visit: (row: ReferenceRow) => void,
): void {
  const [, B, S] = inputs[values.input].shape;
  const N = outputShapes[0][1];
  const keys = new Int32Array(S);
  for (let h = 0; h < H; h++) {
    const g = Math.floor((h * keyHeads) / H);
    for (let q = 0; q < N; q++) {
      // Which keys this query may meet is the same in the whole batch, up to each sequence's length.
      let candidates = 0;
      for (let k = 0; k < S; k++)
        if (!mask || evaluateMask(mask, { h, q, k, keys: S })) keys[candidates++] = k;
      for (let b = 0; b < B; b++) {
        const length = lengthsAt === null ? S : inputs[lengthsAt].data[b];
        let count = 0;
        while (count < candidates && keys[count] < length) count++;
        visit({ h, g, b, q, keys, count, to: ((b * N + q) * H + h) * D });
      }
    }
  }
}

/**
 * Attention by its definition in float64. `modify` turns a scaled score into what softmax sees; `keeps` says which
 * keys a row keeps, beside what the mask says.
 */
export function attentionReference(
  attributes: AttentionAttributes,
  context: ReferenceContext,
  modify: (score: number, h: number, q: number, k: number) => number = (score) => score,
  keeps?: (row: ReferenceRow, k: number) => boolean,
): Float64Array[] {
  const { heads: H, headSize: D, keySize, scale } = attributes;
  const [queries, keys, values] = [attributes.queries, attributes.keys, attributes.values].map((place) =>
    referenceRows(place, context),
  );
  const [B, N] = context.outputShapes[0];
  const out = new Float64Array(B * N * H * D);
  const statistics = new Float64Array(attributes.statistics ? H * B * N * 2 : 0);
  const weights = new Float64Array(values.rows);
  eachReferenceRow(attributes, context, (row) => {
    const { h, g, b, q, to } = row;
    const all = row.keys.subarray(0, row.count);
    const seen = keeps ? all.filter((k) => keeps(row, k)) : all;
    const count = seen.length;
    const x = queries.at(h, b, q);
    let largest = -Infinity;
    for (let i = 0; i < count; i++) {
      const y = keys.at(g, b, seen[i]);
      let score = 0;
      for (let d = 0; d < keySize; d++) score += queries.data[x + d] * keys.data[y + d];
      weights[i] = modify(scale * score, h, q, seen[i]);
      largest = Math.max(largest, weights[i]);
    }
    let sum = 0;
    for (let i = 0; i < count; i++) sum += weights[i] = Math.exp(weights[i] - largest);
    for (let i = 0; i < count; i++) {
      const v = values.at(g, b, seen[i]);
      for (let d = 0; d < D; d++) out[to + d] += (weights[i] / sum) * values.data[v + d];
    }
    if (attributes.statistics) statistics.set([largest, sum], ((h * B + b) * N + q) * 2);
  });
  return attributes.statistics ? [out, statistics] : [out];
}
