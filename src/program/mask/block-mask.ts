import { AttenuateError } from '../../tensor/error.ts';
import { evaluateMask, isRelative, type MaskExpression, mentions, usesHead } from './expression.ts';
import { narrow } from './interval.ts';

/**
 * Which key blocks each query block sees. For list `i = h·queryBlocks + queryBlock` (h = 0 when `heads` is 1),
 * entries `starts[i] … ends[i]` of `entries`, two int32 each: key block, and −1 for a full block or the index
 * of its bit tile. A tile has `queryBlock · keyBlock / 32` words; bit k of row q, little-endian, says that the
 * pair is kept. Equal lists and equal tiles are stored once.
 */
export interface BlockMask {
  readonly queryBlock: number;
  readonly keyBlock: number;
  readonly heads: number;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly entries: Int32Array;
  readonly tiles: Int32Array;
  /** Pairs of blocks kept, over all lists. */
  readonly kept: number;
}

export interface BlockMaskSize {
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  readonly queryBlock: number;
  /** A multiple of 32, so that a row of a tile is whole words. */
  readonly keyBlock: number;
}

const FULL = -1;
const EMPTY = -2;

/**
 * The blocks that a mask keeps; null keeps all of them, in one list that every query block shares. Rectangles of
 * blocks are decided by interval arithmetic and halved while undecided; an undecided single block is evaluated
 * pair by pair. In a tile, queries and keys beyond the last are not kept; a full block may reach beyond the last
 * key or query.
 * @throws `MASK_BLOCK_SIZE` for block sizes that are not positive or do not fill the words of a tile
 */
export function buildBlockMask(mask: MaskExpression | null, size: BlockMaskSize): BlockMask {
  const { queries, keys, queryBlock, keyBlock } = size;
  if (!(queryBlock > 0 && keyBlock > 0 && keyBlock % 32 === 0))
    throw new AttenuateError(
      'MASK_BLOCK_SIZE',
      `[mask] block size that tiles cannot hold: expected a positive number of queries and a multiple of 32 keys, got ${queryBlock} and ${keyBlock}. Use 64 and 64.`,
      { queryBlock, keyBlock },
    );
  const queryBlocks = Math.ceil(queries / queryBlock);
  const keyBlocks = Math.ceil(keys / keyBlock);
  const heads = mask && usesHead(mask) ? size.heads : 1;
  const lists = new ListStore(heads * queryBlocks);
  const tiles = new TileStore();
  if (mask === null) {
    const all = Array.from({ length: keyBlocks }, (_, k) => [k, FULL]).flat();
    lists.setAll(all);
  } else
    for (let head = 0; head < heads; head++) {
      const rows = blocksOfHead(mask, size, head, tiles);
      rows.forEach((row, q) => {
        lists.set(head * queryBlocks + q, row);
      });
    }
  return { queryBlock, keyBlock, heads, ...lists.finish(), tiles: tiles.finish() };
}

/** For each query block of one head, its entries in ascending order of key block. */
function blocksOfHead(mask: MaskExpression, size: BlockMaskSize, head: number, tiles: TileStore): number[][] {
  const { queries, keys, queryBlock, keyBlock } = size;
  const rows: number[][] = Array.from({ length: Math.ceil(queries / queryBlock) }, () => []);
  const known = new Map<MaskExpression, Map<string, number>>();

  /** Blocks that are alike are evaluated once: where the part that decides sees the distance, the key or the query alone. */
  const single = (rest: MaskExpression, q: number, k: number): number => {
    const [q0, k0] = [q * queryBlock, k * keyBlock];
    const whole = q0 + queryBlock <= queries && k0 + keyBlock <= keys;
    const place = isRelative(rest)
      ? `${k0 - q0}`
      : !mentions(rest, ['query'])
        ? `k${k0}`
        : !mentions(rest, ['key'])
          ? `q${q0}`
          : null;
    if (!whole || place === null) return tileOf(rest, size, head, q0, k0, tiles);
    let alike = known.get(rest);
    if (!alike) known.set(rest, (alike = new Map()));
    const entry = alike.get(place) ?? tileOf(rest, size, head, q0, k0, tiles);
    alike.set(place, entry);
    return entry;
  };

  const visit = (e: MaskExpression, q0: number, q1: number, k0: number, k1: number): void => {
    if (q0 >= q1 || k0 >= k1) return;
    const rest = narrow(e, {
      head,
      keys,
      query: { low: q0 * queryBlock, high: Math.min(q1 * queryBlock, queries) - 1 },
      key: { low: k0 * keyBlock, high: Math.min(k1 * keyBlock, keys) - 1 },
    });
    if (rest === 'empty') return;
    const one = q1 - q0 === 1 && k1 - k0 === 1;
    if (rest === 'full' || one) {
      for (let q = q0; q < q1; q++)
        for (let k = k0; k < k1; k++) {
          const entry = rest === 'full' ? FULL : single(rest, q, k);
          if (entry !== EMPTY) rows[q].push(k, entry);
        }
      return;
    }
    const qm = (q0 + q1 + 1) >> 1;
    // A draw says nothing before it is that of one block of queries.
    const km = qm < q1 && mentions(rest, ['hash', 'lookup']) ? k1 : (k0 + k1 + 1) >> 1;
    // Left before right in every row of blocks keeps the lists ascending.
    visit(rest, q0, qm, k0, km);
    visit(rest, q0, qm, km, k1);
    visit(rest, qm, q1, k0, km);
    visit(rest, qm, q1, km, k1);
  };
  visit(mask, 0, rows.length, 0, Math.ceil(keys / keyBlock));
  return rows;
}

/** The entry of one block, pair by pair: full, empty, or the index of its tile. */
function tileOf(
  mask: MaskExpression,
  size: BlockMaskSize,
  h: number,
  q0: number,
  k0: number,
  tiles: TileStore,
): number {
  const words = new Int32Array((size.queryBlock * size.keyBlock) / 32);
  const rows = Math.min(size.queryBlock, size.queries - q0);
  const columns = Math.min(size.keyBlock, size.keys - k0);
  let kept = 0;
  for (let q = 0; q < rows; q++)
    for (let k = 0; k < columns; k++)
      if (evaluateMask(mask, { h, q: q0 + q, k: k0 + k, keys: size.keys })) {
        const bit = q * size.keyBlock + k;
        words[bit >> 5] |= 1 << (bit & 31);
        kept++;
      }
  return kept === 0 ? EMPTY : kept === rows * columns ? FULL : tiles.add(words);
}

/** Bit tiles, equal ones stored once. */
class TileStore {
  private readonly known = new Map<string, number>();
  private readonly words: number[] = [];

  add(tile: Int32Array): number {
    const text = tile.join();
    const before = this.known.get(text);
    if (before !== undefined) return before;
    const index = this.known.size;
    this.known.set(text, index);
    for (const word of tile) this.words.push(word);
    return index;
  }

  finish(): Int32Array {
    return Int32Array.from(this.words);
  }
}

/** Lists of entries, equal ones stored once. */
class ListStore {
  private readonly known = new Map<string, number>();
  private readonly entries: number[] = [];
  private readonly starts: Int32Array;
  private readonly ends: Int32Array;
  private kept = 0;

  constructor(lists: number) {
    this.starts = new Int32Array(lists);
    this.ends = new Int32Array(lists);
  }

  set(index: number, list: readonly number[]): void {
    const start = this.place(list);
    this.starts[index] = start;
    this.ends[index] = start + list.length / 2;
    this.kept += list.length / 2;
  }

  setAll(list: readonly number[]): void {
    const start = this.place(list);
    this.starts.fill(start);
    this.ends.fill(start + list.length / 2);
    this.kept = (this.starts.length * list.length) / 2;
  }

  finish(): Pick<BlockMask, 'starts' | 'ends' | 'entries' | 'kept'> {
    return {
      starts: this.starts,
      ends: this.ends,
      entries: Int32Array.from(this.entries),
      kept: this.kept,
    };
  }

  private place(list: readonly number[]): number {
    const text = list.join();
    const start = this.known.get(text) ?? this.entries.length / 2;
    if (!this.known.has(text)) {
      this.known.set(text, start);
      for (const x of list) this.entries.push(x);
    }
    return start;
  }
}

/** Pairs inside the blocks that a mask keeps, over all heads; the last block of each axis counts what it holds. */
export function keptPairs(mask: MaskExpression, size: BlockMaskSize): number {
  const { heads, queries, keys, queryBlock, keyBlock } = size;
  const m = buildBlockMask(mask, size);
  const queryBlocks = Math.ceil(queries / queryBlock);
  let pairs = 0;
  for (let list = 0; list < m.starts.length; list++) {
    const rows = Math.min(queryBlock, queries - (list % queryBlocks) * queryBlock);
    for (let e = m.starts[list]; e < m.ends[list]; e++)
      pairs += rows * Math.min(keyBlock, keys - m.entries[2 * e] * keyBlock);
  }
  return (pairs * heads) / m.heads;
}
