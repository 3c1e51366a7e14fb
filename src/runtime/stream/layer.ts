import type { WasmEngine } from '../../backend/wasm/engine.ts';
import type { ProgramCuts } from '../../program/cut.ts';
import type { Value } from '../../program/program.ts';
import { evaluateDim } from '../../tensor/dim.ts';
import { type RowList, RowStore, rowList } from './rows.ts';
import { Segment } from './segment.ts';

/** The parts of one layer, shared by all streams of a model. */
export class LayerSegments {
  readonly before: Segment | null;
  readonly mixing: Segment | null;
  readonly after: Segment;
  readonly x: Value;
  readonly y: Value;

  constructor(engine: WasmEngine, { before, mixing, after, x, y }: ProgramCuts['layers'][number]) {
    this.before = before && new Segment(engine, before);
    this.mixing = mixing && new Segment(engine, mixing);
    this.after = new Segment(engine, after);
    [this.x, this.y] = [x, y];
  }

  /** Multiply-adds of all products with weights, for one row. */
  get rowWork(): number {
    return (this.before?.rowWork ?? 0) + (this.mixing?.rowWork ?? 0) + this.after.rowWork;
  }
}

export const storeOf = ({ shape }: Value): RowStore =>
  new RowStore(shape.length === 4 ? evaluateDim(shape[0], {}) : 1, evaluateDim(shape.at(-1)!, {}));

/** What one push finds in each layer. */
export interface Push {
  readonly n: number;
  /** Rows that the last push left behind; those from here on are new. */
  readonly known: number;
  readonly threshold: number;
  readonly lengths: Int32Array;
}

/** What one push did in one layer. */
export interface LayerWork {
  /** Rows whose queries, keys and values were made anew. */
  readonly projected: number;
  /** Rows whose attention was taken: all, or none. */
  readonly attended: number;
  /** Rows that went through the rest of the layer. */
  readonly updated: number;
  /** Multiply-adds of products with weights, rows that only fill a plan included. */
  readonly multiplyAdds: number;
}

/** Reference inputs and cached outputs of one layer for one stream. */
export class LayerState {
  readonly out: RowStore;
  /** Rows of `out` that the last push changed. */
  changed: RowList = rowList(0);
  private readonly segments: LayerSegments;
  /** x as the rows were projected from it, and as they went through the rest of the layer. */
  private readonly projectedX: RowStore;
  /** What each value was when `after` last read it, x among them. */
  private readonly references = new Map<Value, RowStore>();
  /** What `before` made of each row, and what mixing last gave. */
  private readonly made = new Map<Value, RowStore>();
  private readonly mixed = new Map<Value, RowStore>();
  private events: RowList = rowList(0);

  constructor(segments: LayerSegments) {
    const { before, mixing, after, x, y } = segments;
    this.segments = segments;
    this.out = storeOf(y);
    this.projectedX = storeOf(x);
    for (const value of before?.program.outputs ?? []) this.made.set(value, storeOf(value));
    for (const value of mixing?.program.outputs ?? []) this.mixed.set(value, storeOf(value));
    for (const value of after.program.inputs) this.references.set(value, storeOf(value));
  }

  get bytes(): number {
    return this.stores().reduce((n, store) => n + store.bytes, 0);
  }

  /** Takes x, of which only `changed` rows may be others than at the last push. */
  async push(x: RowStore, changed: RowList, push: Push): Promise<LayerWork> {
    const { n, known, threshold } = push;
    this.reserve(n);
    const { before, mixing, after } = this.segments;
    const events = find(this.events, n, known, changed, (row) => x.differs(this.projectedX, row, threshold));
    const projected = events.count;
    let multiplyAdds = 0;
    this.projectedX.take(x, events);
    if (before && projected)
      multiplyAdds += await runRows(before, events, n, new Map([[this.segments.x, x]]), this.made);

    const mixes = mixing !== null && (projected > 0 || n !== known);
    if (mixes) {
      mixing.prepare(n);
      for (const value of mixing.program.inputs)
        (value === this.segments.x ? this.projectedX : this.made.get(value))?.copyTo(mixing.view(value), n);
      mixing.give({ lengths: push.lengths });
      await mixing.compute();
      for (const [value, store] of this.mixed) store.copyFrom(mixing.view(value), n);
      multiplyAdds += mixing.rowWork * n;
    }

    const sources = new Map([...this.mixed, [this.segments.x, x] as const]);
    const read = after.program.inputs.map(
      (value) => [sources.get(value)!, this.references.get(value)!] as const,
    );
    const updates = find(this.changed, n, known, mixes ? null : changed, (row) =>
      read.some(([now, was]) => now.differs(was, row, threshold)),
    );
    for (const [now, was] of read) was.take(now, updates);
    if (updates.count)
      multiplyAdds += await runRows(after, updates, n, sources, new Map([[this.segments.y, this.out]]));
    return { projected, attended: mixes ? n : 0, updated: updates.count, multiplyAdds };
  }

  private stores(): RowStore[] {
    const { made, mixed, references } = this;
    return [this.out, this.projectedX, ...made.values(), ...mixed.values(), ...references.values()];
  }

  private reserve(n: number): void {
    for (const store of this.stores()) store.reserve(n);
    if (this.events.list.length >= n) return;
    this.events = rowList(2 * n);
    this.changed = rowList(2 * n);
  }
}

/** Fills `into` with the rows that are new, and those among `candidates` (null: all) that pass the test. */
function find(
  into: RowList,
  n: number,
  known: number,
  candidates: RowList | null,
  differs: (row: number) => boolean,
): RowList {
  into.count = 0;
  const old = Math.min(n, known);
  const count = candidates ? candidates.count : old;
  for (let i = 0; i < count; i++) {
    const row = candidates ? candidates.list[i] : i;
    if (row < old && differs(row)) into.list[into.count++] = row;
  }
  for (let row = old; row < n; row++) into.list[into.count++] = row;
  return into;
}

/** Runs a row-wise part over some rows; gives the multiply-adds that it took. */
async function runRows(
  segment: Segment,
  rows: RowList,
  n: number,
  from: ReadonlyMap<Value, RowStore>,
  to: ReadonlyMap<Value, RowStore>,
): Promise<number> {
  const size = roomFor(rows.count, n);
  segment.prepare(size);
  for (const value of segment.program.inputs) from.get(value)!.gather(rows, segment.view(value), size);
  await segment.compute();
  for (const [value, store] of to) store.scatter(rows, segment.view(value), size);
  return segment.rowWork * size;
}

/** Rows of the plan that serves `count`: few sizes (1, 2, 3, 4, 6, 8, 12, 16, 24 …), so that few plans are made. */
export function roomFor(count: number, most: number): number {
  const power = 2 ** Math.floor(Math.log2(count));
  const room = count === power ? power : count <= power * 1.5 && power > 1 ? power * 1.5 : power * 2;
  return Math.min(room, most);
}
