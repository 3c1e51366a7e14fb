import { type FunctionBuilder, ModuleBuilder, type Variable } from './assembler.ts';
import { i32, v128 } from './instructions.ts';
import { type Features, multiplyAdd, plus } from './kernels/kernel.ts';

/** Rows that are summed at a time: a panel of them stays in the first cache level. */
const DEPTH = 128;
const PANEL = 8;
const PANEL_BYTES = DEPTH * PANEL * 4;
const PAGE = 65536;

/** Sums `Σ x xᵀ` over rows x as they come, float32: what a product's inputs have in common, pair by pair. */
export class Gram {
  readonly columns: number;
  private readonly panels: number;
  private readonly block: Float32Array;
  private readonly sums: Float32Array;
  private readonly accumulate: () => void;
  private waiting = 0;

  constructor(columns: number, { fused }: Pick<Features, 'fused'>) {
    this.columns = columns;
    this.panels = Math.ceil(columns / PANEL);
    const pitch = this.panels * PANEL;
    const sumsAt = this.panels * PANEL_BYTES;
    const pages = Math.ceil((sumsAt + pitch * pitch * 4) / PAGE);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const module = new ModuleBuilder({ shared: false, minPages: pages, maxPages: pages });
    module.func('gram', {}, (f) => upperTriangle(f, fused, this.panels, sumsAt), true);
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), { env: { memory } });
    this.accumulate = exports.gram as () => void;
    this.block = new Float32Array(memory.buffer, 0, sumsAt / 4);
    this.sums = new Float32Array(memory.buffer, sumsAt, pitch * pitch);
  }

  /** @param rows `[n, columns]` */
  add(rows: Float32Array): void {
    const { columns, block } = this;
    for (let from = 0; from < rows.length; from += columns) {
      for (let c = 0; c < columns; c++)
        block[((c >> 3) * DEPTH + this.waiting) * PANEL + (c & 7)] = rows[from + c];
      if (++this.waiting === DEPTH) this.flush();
    }
  }

  /** The whole symmetric sum `[columns, columns]`, a copy. */
  read(): Float32Array {
    this.flush();
    const { columns, panels, sums } = this;
    const pitch = panels * PANEL;
    const out = new Float32Array(columns * columns);
    for (let i = 0; i < columns; i++)
      for (let j = 0; j < columns; j++)
        out[i * columns + j] = i >> 3 <= j >> 3 ? sums[i * pitch + j] : sums[j * pitch + i];
    return out;
  }

  /** Goes on from a sum that was read before. */
  restore(total: Float32Array): void {
    const { columns, panels, sums } = this;
    for (let i = 0; i < columns; i++)
      sums.set(total.subarray(i * columns, (i + 1) * columns), i * panels * PANEL);
    this.block.fill(0);
    this.waiting = 0;
  }

  private flush(): void {
    if (this.waiting === 0) return;
    this.accumulate();
    this.block.fill(0);
    this.waiting = 0;
  }
}

/** `sums[i, j] += Σ_t x[t, i] x[t, j]` for every panel of i and every panel of j from there on. */
function upperTriangle(f: FunctionBuilder, fused: boolean, panels: number, sumsAt: number): void {
  const madd = multiplyAdd({ fused } as Features);
  const pitchBytes = panels * PANEL * 4;
  const [i, j, from, a, b, end] = f.localArray('i32', 6);
  const acc = f.localArray('v128', 8);
  const [left, right, splat] = f.localArray('v128', 3);
  const tile = (half: number): void => {
    const to: Variable<'i32'> = f.local('i32');
    f.set(to, i32.add(from, i32.const(half * 4 * pitchBytes)));
    for (let k = 0; k < 8; k++) f.set(acc[k], v128.load(to, (k >> 1) * pitchBytes + (k & 1) * 16));
    f.set(a, plus(i, half * 16));
    f.for(b, j, end, PANEL * 4, () => {
      f.set(left, v128.load(b));
      f.set(right, v128.load(b, 16));
      for (let row = 0; row < 4; row++) {
        f.set(splat, v128.load32_splat(a, 4 * row));
        f.set(acc[2 * row], madd(splat, left, acc[2 * row]));
        f.set(acc[2 * row + 1], madd(splat, right, acc[2 * row + 1]));
      }
      f.increment(a, PANEL * 4);
    });
    for (let k = 0; k < 8; k++) f.emit(v128.store(to, acc[k], (k >> 1) * pitchBytes + (k & 1) * 16));
  };
  const row = f.local('i32', i32.const(sumsAt));
  f.for(i, i32.const(0), i32.const(panels * PANEL_BYTES), PANEL_BYTES, () => {
    f.set(from, row);
    f.for(j, i, i32.const(panels * PANEL_BYTES), PANEL_BYTES, () => {
      f.set(end, plus(j, PANEL_BYTES));
      tile(0);
      tile(1);
      f.increment(from, PANEL * 4);
    });
    // The next panel of rows starts on the diagonal.
    f.increment(row, PANEL * pitchBytes + PANEL * 4);
  });
}
