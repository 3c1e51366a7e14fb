import { linear } from '../../program/ops/linear.ts';
import { trace } from '../../program/trace.ts';
import { type Codec, encode, type Weight } from '../../tensor/codec.ts';
import { symbol } from '../../tensor/dim.ts';
import { WasmEngine } from './engine.ts';
import type { Features, Tiles } from './kernels/kernel.ts';

/** One tile that was timed: rows, and the median of its runs. */
export interface TimedTile {
  readonly kind: 'float32' | 'int8';
  readonly rows: number;
  readonly medianMs: number;
}

/** A feed-forward product of MiniLM: long enough for the tile to decide, short enough to be tried often. */
const [M, C, K] = [96, 768, 384];
const CANDIDATES = [2, 3, 4, 5, 6, 8];
const ROUNDS = 15;

/**
 * Times every candidate tile on this device, by turns, so that a machine that slows down does so for all alike.
 * Which tile is best depends on how the engine allocates registers.
 */
export async function tuneTiles(features: Features): Promise<{ tiles: Tiles; timed: TimedTile[] }> {
  const timed: TimedTile[] = [];
  for (const kind of ['float32', 'int8'] as const) timed.push(...(await timeTiles(kind, features)));
  const best = (kind: TimedTile['kind']): number =>
    timed.filter((t) => t.kind === kind).reduce((a, b) => (b.medianMs < a.medianMs ? b : a)).rows;
  return { tiles: { float32: best('float32'), int8: best('int8') }, timed };
}

async function timeTiles(kind: Codec & TimedTile['kind'], features: Features): Promise<TimedTile[]> {
  const values = Float32Array.from({ length: C * K }, (_, i) => Math.sin(i));
  const weights = new Map<string, Weight>([
    ['w', encode(kind, [C, K], values)],
    ['b', encode('float32', [C], new Float32Array(C))],
  ]);
  const program = trace(weights, (t) => {
    const x = t.input('x', 'float32', [symbol('B'), symbol('N'), K]);
    t.output(t.stage('product', () => linear(t, x, [t.parameter('w')], [t.parameter('b')])));
  });
  const x = Float32Array.from({ length: M * K }, (_, i) => Math.cos(i));
  const engines = await Promise.all(
    CANDIDATES.map(async (rows) => {
      const engine = await WasmEngine.create(program, weights, {
        features,
        tiles: { float32: rows, int8: rows },
        threads: 1,
      });
      const loader = engine.loader(weights);
      for (const [name, { bytes }] of weights) loader.accept(name, 0, bytes);
      loader.finish();
      return {
        rows,
        samples: [] as number[],
        run: () => engine.run({ B: 1, N: M }, { x }),
        dispose: () => engine.dispose(),
      };
    }),
  );
  // The first rounds run on the baseline compiler's code.
  for (let round = -5; round < ROUNDS; round++)
    for (const { samples, run } of engines) {
      const from = performance.now();
      await run();
      if (round >= 0) samples.push(performance.now() - from);
    }
  for (const { dispose } of engines) dispose();
  return engines.map(({ rows, samples }) => ({
    kind,
    rows,
    medianMs: samples.sort((a, b) => a - b)[ROUNDS >> 1],
  }));
}
