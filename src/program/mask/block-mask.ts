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
