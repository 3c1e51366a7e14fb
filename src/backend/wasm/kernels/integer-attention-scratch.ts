import type { IntegerPrecision } from '../../../program/ops/integer-attention.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type I32, i32 } from '../instructions.ts';
import { MOST_ROWS, pad } from './attention.ts';
import { type Blocks, KEYS, scoreRow } from './attention-tiles.ts';
import { codesOf, panelBytes } from './integer-attention-pack.ts';
import { statistics } from './integer-attention-tiles.ts';
import { type Features, plus, times } from './kernel.ts';

/** What one kernel is generated for. */
export interface IntegerAttentionVariant {
  readonly precision: IntegerPrecision;
  readonly keySize: number;
  readonly headSize: number;
  readonly blocks: Blocks;
}

const PARTS = ['stats', 'O', 'queries', 'means', 'scales', 'keyScales', 'sums', 'keys', 'values'] as const;
type Part = (typeof PARTS)[number];

/** Bytes of scratch by what stands there, behind a block of scores. `S` is rounded up to whole panels. */
function layout({ precision, keySize, headSize, blocks }: IntegerAttentionVariant, features: Features) {
  const codes = codesOf(features);
  const panel = panelBytes(pad(keySize), codes);
  const whole = precision === 'int8';
  const align = (bytes: number) => (bytes + 15) & ~15;
  return (S: number): Readonly<Record<Part, number>> => {
    const panels = Math.ceil(S / KEYS);
    const keyBlocks = Math.ceil(S / blocks.key);
    return {
      stats: statistics(blocks).bytes,
      O: blocks.query * pad(headSize) * 4,
      queries: align(blocks.query * pad(keySize) * codes.bytes),
      means: align(pad(keySize) * 4),
      scales: align(pad(headSize) * 4),
      keyScales: align(keyBlocks * 4),
      sums: codes.weightShift ? keyBlocks * pad(headSize) * 4 : 0,
      keys: panels * panel,
      values: whole ? panels * KEYS * codes.bytes * pad(headSize) : 0,
    };
  };
}

/** Bytes of scratch that one thread needs for sequences of `S` keys. */
export const integerAttentionScratch = (
  S: number,
  variant: IntegerAttentionVariant,
  features: Features,
): number =>
  MOST_ROWS * scoreRow(variant.blocks) +
  Object.values(layout(variant, features)(S)).reduce((a, b) => a + b, 0);

/** Addresses of the parts of the scratch: those whose size depends on how many keys there are stand last. */
export function placesOf(
  f: FunctionBuilder,
  start: I32,
  variant: IntegerAttentionVariant,
  features: Features,
  S: I32,
): Readonly<Record<Part, Variable<'i32'>>> {
  const sizes = layout(variant, features);
  const KEY_BLOCK = variant.blocks.key;
  const [none, block] = [sizes(0), sizes(KEY_BLOCK)];
  const keyBlocks = i32.div_u(plus(S, KEY_BLOCK - 1), i32.const(KEY_BLOCK));
  const panels = i32.shr_u(plus(S, KEYS - 1), i32.const(3));
  const sizeOf = (part: Part): I32 => {
    if (part === 'keyScales') return i32.and(plus(times(keyBlocks, 4), 15), i32.const(-16));
    if (part === 'sums') return i32.mul(keyBlocks, i32.const(block.sums));
    if (part === 'keys' || part === 'values')
      return i32.mul(panels, i32.const((block[part] * KEYS) / KEY_BLOCK));
    return i32.const(none[part]);
  };
  const places = {} as Record<Part, Variable<'i32'>>;
  let next = start;
  for (const part of PARTS) {
    places[part] = f.local('i32', next);
    next = i32.add(places[part], sizeOf(part));
  }
  return places;
}
