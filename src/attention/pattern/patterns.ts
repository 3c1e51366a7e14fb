import {
  add,
  and,
  constant,
  div,
  eq,
  ge,
  hash,
  type IntegerExpression,
  key,
  le,
  lookup,
  type MaskExpression,
  mod,
  mul,
  or,
  query,
  sub,
} from '../../program/mask/expression.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { local } from './window.ts';

/** Every `stride`-th key from the query on, both ways. Sparse Transformer, Child et al. 2019, section 4.2. */
export const strided = (stride: number): MaskExpression =>
  eq(mod(sub(key, query), constant(stride)), constant(0));

/** The query's own run of `block` tokens, and the last `summary` tokens of every run. Child et al. 2019, section 4.2. */
export const fixed = (block: number, summary: number): MaskExpression =>
  or(
    eq(div(query, constant(block)), div(key, constant(block))),
    ge(mod(key, constant(block)), constant(block - summary)),
  );

/** The first `tokens` tokens see all and are seen by all. Longformer, Beltagy et al. 2020, section 3.1. */
export const global = (tokens: number): MaskExpression =>
  or(le(key, constant(tokens - 1)), le(query, constant(tokens - 1)));

export const causal = (): MaskExpression => le(key, query);

/** Keys before `length`: what `lengths` say at run time, said ahead. */
export const padding = (length: number): MaskExpression => le(key, constant(length - 1));

/** Documents packed in one sequence, each beginning at one of `starts`: tokens meet inside their own. */
export function document(starts: readonly number[], length: number): MaskExpression {
  const table: number[] = [];
  for (let token = 0, at = -1; token < length; token++) {
    if (starts.includes(token)) at++;
    table.push(at);
  }
  return eq(lookup(table, query), lookup(table, key));
}

const allOf = (masks: readonly MaskExpression[]): MaskExpression => masks.reduce(or);

/**
 * Each run of `block` tokens sees, in mean, `blocks` runs drawn by `seed`, as in BigBird (Zaheer et al. 2020, section
 * 2). Half of the draws, rounded up, pick a run up to one's own; the others are the same draw seen from the drawn
 * run, which makes it see later ones. The paper draws from all runs of the text: what a token sees would then
 * depend on how far its text is padded. A draw is a hash: nothing is stored.
 */
export function random({
  blocks,
  block,
  seed,
}: {
  blocks: number;
  block: number;
  seed: number;
}): MaskExpression {
  const size = constant(block);
  const [own, other] = [div(query, size), div(key, size)];
  const drawnBy = (run: IntegerExpression, i: number): IntegerExpression =>
    mod(hash(run, constant(seed * 1009 + i)), add(run, constant(1)));
  const backward = Math.ceil(blocks / 2);
  return allOf(
    Array.from({ length: blocks }, (_, i) =>
      i < backward ? eq(other, drawnBy(own, i)) : eq(own, drawnBy(other, i - backward)),
    ),
  );
}

/** Each pair of runs of `block` tokens is kept with probability `density`, drawn by `seed`; the diagonal always. */
export function randomDensity({
  density,
  block,
  seed,
}: {
  density: number;
  block: number;
  seed: number;
}): MaskExpression {
  const size = constant(block);
  const [own, other] = [div(query, size), div(key, size)];
  const drawn = hash(hash(own, constant(seed)), other);
  return or(le(drawn, constant(Math.round(density * 2 ** 31) - 1)), eq(own, other));
}

/**
 * The pairs (run of queries, run of keys) that a list names, of runs of `block` tokens.
 * @throws `MASK_INVALID` for a list that names a run beyond the 256th
 */
export function blockSparse({
  block,
  pairs,
}: {
  block: number;
  pairs: readonly (readonly [query: number, key: number])[];
}): MaskExpression {
  const rows = 1 + Math.max(0, ...pairs.map(([q]) => q));
  const columns = 1 + Math.max(0, ...pairs.map(([, k]) => k));
  const worst = Math.max(rows, columns);
  if (
    !(worst <= 256) ||
    pairs.some(([q, k]) => !(Number.isInteger(q) && Number.isInteger(k) && q >= 0 && k >= 0))
  )
    throw new AttenuateError(
      'MASK_INVALID',
      `[mask] block out of range: expected whole numbers from 0 to 255, got up to ${worst - 1}. Use larger blocks.`,
      { rows, columns },
    );
  const table = new Array<number>(rows * columns).fill(0);
  for (const [q, k] of pairs) table[q * columns + k] = 1;
  const [own, other] = [div(query, constant(block)), div(key, constant(block))];
  const inside = le(other, constant(columns - 1));
  return and(inside, eq(lookup(table, add(mul(own, constant(columns)), other)), constant(1)));
}

/** A window and global tokens. Beltagy et al. 2020. */
export const longformer = ({ window, globals }: { window: number; globals: number }): MaskExpression =>
  globals > 0 ? or(local(window, window), global(globals)) : local(window, window);

/** A window, global tokens and random blocks. Zaheer et al. 2020. */
export const bigBird = (options: {
  window: number;
  globals: number;
  random: number;
  block: number;
  seed: number;
}): MaskExpression => {
  const { window, globals, block, seed } = options;
  const base = longformer({ window, globals });
  return options.random > 0 ? or(base, random({ blocks: options.random, block, seed })) : base;
};
