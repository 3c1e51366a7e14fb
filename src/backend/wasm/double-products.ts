import { type FunctionBuilder, ModuleBuilder, type Variable } from './assembler.ts';
import { type I32, i32, v128 } from './instructions.ts';
import { f64x2 } from './kernels/double.ts';

/** Rows and columns of an output that are summed in registers: sizes are multiples of it. */
export const TILE = 4;
const PAGE = 65536;
const BYTES = 8;

/** A float64 matrix inside the memory of `DoubleProducts`, row after row. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly at: number;
  readonly values: Float64Array;
}

/** Products of float64 matrices that stay where they are, on one thread; the order of sums is fixed. */
export class DoubleProducts<Name extends string> {
  readonly matrices: Readonly<Record<Name, Matrix>>;
  private readonly product: (...at: number[]) => void;

  /** @param sizes rows and columns of each matrix, multiples of `TILE` */
  constructor(sizes: Readonly<Record<Name, readonly [rows: number, columns: number]>>) {
    const named = Object.entries(sizes) as [Name, readonly [number, number]][];
    const bytes = named.reduce((sum, [, [rows, columns]]) => sum + rows * columns * BYTES, 0);
    const pages = Math.ceil(bytes / PAGE);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const module = new ModuleBuilder({ shared: false, minPages: pages, maxPages: pages });
    const parameters = { out: 'i32', end: 'i32', left: 'i32', right: 'i32' } as const;
    const strides = { across: 'i32', down: 'i32', row: 'i32', depth: 'i32' } as const;
    module.func('product', { ...parameters, ...strides }, accumulate, true);
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), { env: { memory } });
    this.product = exports.product as (...at: number[]) => void;
    let at = 0;
    const place = ([rows, columns]: readonly [number, number]): Matrix => {
      const values = new Float64Array(memory.buffer, at, rows * columns);
      const matrix = { rows, columns, at, values };
      at += values.byteLength;
      return matrix;
    };
    this.matrices = Object.fromEntries(named.map(([name, size]) => [name, place(size)])) as Record<
      Name,
      Matrix
    >;
  }

  /** `out [M, N] += left [M, P] · right [P, N]`. */
  add(out: Name, left: Name, right: Name): void {
    this.run(out, left, right, this.matrices[left].columns * BYTES, BYTES);
  }

  /** `out [M, N] += leftᵀ · right`, left `[P, M]`, right `[P, N]`. */
  addTransposed(out: Name, left: Name, right: Name): void {
    this.run(out, left, right, BYTES, this.matrices[left].columns * BYTES);
  }

  private run(out: Name, left: Name, right: Name, across: number, down: number): void {
    const [o, l, r] = [out, left, right].map((name) => this.matrices[name]);
    const row = o.columns * BYTES;
    this.product(o.at, o.at + o.rows * row, l.at, r.at, across, down, row, r.rows * row);
  }
}

type Place = 'out' | 'end' | 'left' | 'right';
type Stride = 'across' | 'down' | 'row' | 'depth';

/**
 * Four rows by four columns at a time. `across` is from one of left's rows to the next and `down` from one of its columns
 * to the next; `row` is a row of out and right, `depth` the whole of right, all in bytes.
 */
function accumulate(f: FunctionBuilder, p: Record<Place | Stride, Variable<'i32'>>): void {
  const { out, end, left, right, across, down, row, depth } = p;
  const [to, column, a, b, last] = f.localArray('i32', 5);
  const sums = f.localArray('v128', 8);
  const [low, high, splat] = f.localArray('v128', 3);
  /** Address of row `r` of a tile. */
  const rowOf = (base: I32, stride: I32, r: number): I32 =>
    r === 0 ? base : i32.add(base, i32.mul(stride, i32.const(r)));
  const lefts = f.localArray('i32', TILE);
  const tileRows = f.local('i32', i32.mul(row, i32.const(TILE)));
  f.while(
    () => i32.lt_u(out, end),
    () => {
      f.for(column, i32.const(0), row, TILE * BYTES, () => {
        f.set(to, i32.add(out, column));
        for (let s = 0; s < 8; s++) f.set(sums[s], v128.load(rowOf(to, row, s >> 1), (s & 1) * 16));
        for (let r = 0; r < TILE; r++) f.set(lefts[r], rowOf(left, across, r));
        f.set(a, i32.const(0));
        f.set(b, i32.add(right, column));
        f.set(last, i32.add(b, depth));
        f.while(
          () => i32.lt_u(b, last),
          () => {
            f.set(low, v128.load(b));
            f.set(high, v128.load(b, 16));
            for (let r = 0; r < TILE; r++) {
              f.set(splat, v128.load64_splat(i32.add(lefts[r], a)));
              f.set(sums[2 * r], f64x2.add(sums[2 * r], f64x2.mul(splat, low)));
              f.set(sums[2 * r + 1], f64x2.add(sums[2 * r + 1], f64x2.mul(splat, high)));
            }
            f.increment(a, down);
            f.increment(b, row);
          },
        );
        for (let s = 0; s < 8; s++) f.emit(v128.store(rowOf(to, row, s >> 1), sums[s], (s & 1) * 16));
      });
      f.increment(left, i32.mul(across, i32.const(TILE)));
      f.increment(out, tileRows);
    },
  );
}
