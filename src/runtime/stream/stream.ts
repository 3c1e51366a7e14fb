import type { WasmEngine } from '../../backend/wasm/engine.ts';
import { cutProgram } from '../../program/cut.ts';
import type { Value } from '../../program/program.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { RunOptions, StreamOptions, StreamWork } from '../types.ts';
import { LayerSegments, LayerState, type LayerWork, type Push, storeOf } from './layer.ts';
import { type RowStore, rowList } from './rows.ts';
import { Segment } from './segment.ts';

/** A model taken apart for streams: one for each engine, however many streams it has. */
class Segments {
  readonly first: Segment;
  readonly layers: readonly LayerSegments[];
  readonly last: Segment;
  /** Rows that the first layer reads, and those that the head reads. */
  readonly embedded: Value;
  readonly x: Value;
  readonly rowWork: number;

  constructor(engine: WasmEngine) {
    const { first, layers, last, x } = cutProgram(engine.program);
    this.first = new Segment(engine, first);
    this.layers = layers.map((layer) => new LayerSegments(engine, layer));
    this.last = new Segment(engine, last);
    [this.embedded] = first.outputs;
    this.x = x;
    this.rowWork = this.layers.reduce((n, layer) => n + layer.rowWork, 0);
  }
}

const cuts = new WeakMap<WasmEngine, Segments>();
const YIELD_AFTER_MS = 50;

/**
 * Keeps what each layer made of each token, and makes anew only what a change of the text reaches: tokens whose input
 * to a row-wise part moved by more than the threshold since it was last computed (Dutson, Li, Gupta 2023, section 4).
 */
export class StreamState {
  private readonly engine: WasmEngine;
  private readonly segments: Segments;
  private readonly threshold: number;
  private readonly refresh: number;
  private embedded: RowStore;
  private layers: LayerState[];
  private known = 0;
  private pushes = 0;
  private output: Float32Array | null = null;

  /** @throws `STREAM_OPTION`; `CUT_UNSUPPORTED` for a model whose layers hand on more than rows */
  constructor(engine: WasmEngine, { threshold = 0, refresh = 0 }: StreamOptions) {
    expectOption('threshold', threshold, Number.isFinite(threshold), 'a number');
    expectOption('refresh', refresh, Number.isSafeInteger(refresh), 'a whole number');
    const known = cuts.get(engine) ?? new Segments(engine);
    cuts.set(engine, known);
    this.engine = engine;
    this.segments = known;
    this.threshold = threshold;
    this.refresh = refresh;
    [this.embedded, this.layers] = this.empty();
  }

  /** Forgets everything: the next push computes every row. */
  reset(): void {
    this.known = 0;
    this.pushes = 0;
    this.output = null;
    [this.embedded, this.layers] = this.empty();
  }

  /** The head's output for one text. After a failure or an abort the next push computes every row. */
  async push(
    ids: readonly number[],
    types: readonly number[],
    { signal }: RunOptions,
  ): Promise<{ output: Float32Array; recomputed: StreamWork }> {
    signal?.throwIfAborted();
    if (this.refresh && this.pushes % this.refresh === 0) this.known = 0;
    const n = ids.length;
    const push: Push = { n, known: this.known, threshold: this.threshold, lengths: Int32Array.of(n) };
    this.known = 0;
    const perLayer = await this.rows(ids, types, push, signal);
    const last = this.layers.at(-1);
    if (!this.output || !last || last.changed.count || n !== push.known) await this.finish(n);
    this.known = n;
    this.pushes++;
    const sum = (of: (layer: LayerWork) => number) => perLayer.reduce((total, layer) => total + of(layer), 0);
    return {
      output: this.output!.slice(),
      recomputed: {
        rows: sum((l) => l.projected + l.updated),
        ofRows: 2 * n * perLayer.length,
        perLayer: perLayer.map(({ projected, attended, updated }) => ({ projected, attended, updated })),
        multiplyAdds: perLayer.length ? sum((l) => l.multiplyAdds) / (this.segments.rowWork * n) : 0,
        stateBytes: this.layers.reduce((total, layer) => total + layer.bytes, this.embedded.bytes),
      },
    };
  }

  private async rows(
    ids: readonly number[],
    types: readonly number[],
    push: Push,
    signal: AbortSignal | undefined,
  ): Promise<LayerWork[]> {
    const { n } = push;
    const { first, embedded } = this.segments;
    first.prepare(n);
    first.give({
      ids,
      types: Int32Array.from({ length: n }, (_, i) => types[i] ?? 0),
      lengths: push.lengths,
    });
    await first.compute();
    this.embedded.reserve(n);
    this.embedded.copyFrom(first.view(embedded), n);
    let [x, changed] = [this.embedded, rowList(n)];
    for (let row = 0; row < n; row++) changed.list[changed.count++] = row;
    const work: LayerWork[] = [];
    let last = performance.now();
    for (const layer of this.layers) {
      if (signal || performance.now() - last > YIELD_AFTER_MS) {
        await new Promise<void>((resume) => setTimeout(resume));
        last = performance.now();
        signal?.throwIfAborted();
        this.engine.buffer();
      }
      work.push(await layer.push(x, changed, push));
      ({ out: x, changed } = layer);
    }
    return work;
  }

  private async finish(n: number): Promise<void> {
    const { last, x } = this.segments;
    last.prepare(n);
    last.give({ lengths: [n] });
    (this.layers.at(-1)?.out ?? this.embedded).copyTo(last.view(x), n);
    await last.compute();
    this.output = last.view(last.program.outputs[0]).slice();
  }

  private empty(): [RowStore, LayerState[]] {
    return [storeOf(this.segments.embedded), this.segments.layers.map((layer) => new LayerState(layer))];
  }
}

function expectOption(name: string, value: number, sound: boolean, what: string): void {
  if (!(sound && value >= 0))
    throw new AttenuateError(
      'STREAM_OPTION',
      `[stream] bad ${name}: expected ${what} from 0 on, got ${value}. Correct the option.`,
      { option: name },
    );
}
