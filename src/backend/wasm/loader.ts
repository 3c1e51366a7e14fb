import {
  columnsOf,
  isPlain,
  rowsOf,
  type Section,
  scaleTypeOf,
  sections,
  type WeightSpec,
} from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { decodeBfloat16, decodeFloat16 } from '../../tensor/half.ts';
import type { PackFields } from './kernels/pack.ts';
import type { KernelKey } from './lowering.ts';
import type { WeightMap } from './weights.ts';

/** Runs a packing kernel over `rows` rows that stand at the staging address. */
export type Pack = (kernel: KernelKey, fields: PackFields, rows: number) => void;

export interface LoaderTarget {
  readonly map: WeightMap;
  readonly memory: () => ArrayBufferLike;
  /** Where rows wait until they are packed, and how much fits there. */
  readonly staging: number;
  readonly stagingBytes: number;
  readonly pack: Pack;
}

/** Bytes that `staging` must hold for these weights. */
export function stagingFor(specs: Iterable<WeightSpec>): number {
  let widest = 0;
  for (const { shape } of specs) if (shape.length === 2) widest = Math.max(widest, columnsOf(shape) * 4);
  return Math.max(1 << 16, widest);
}

/** Takes the weights of a model piece by piece, in any order of weights, and puts each where its kernels read it. */
export class WeightLoader {
  private readonly target: LoaderTarget;
  private readonly specs: ReadonlyMap<string, WeightSpec>;
  private readonly seen = new Map<string, number>();
  /** Bytes of a row, or of a scale vector, that is not whole yet. */
  private pending: Uint8Array = new Uint8Array(0);

  constructor(specs: ReadonlyMap<string, WeightSpec>, target: LoaderTarget) {
    this.specs = specs;
    this.target = target;
  }

  accept(name: string, offset: number, bytes: Uint8Array): void {
    const spec = this.specs.get(name);
    if (
      !spec ||
      (!this.target.map.raw.has(name) &&
        !this.target.map.matrices.has(name) &&
        !this.target.map.biases.has(name))
    )
      return;
    if ((this.seen.get(name) ?? 0) !== offset)
      throw new AttenuateError(
        'WEIGHT_ORDER',
        `[load] piece of ${name} out of order: expected offset ${this.seen.get(name) ?? 0}, got ${offset}. Send each weight's bytes in order.`,
        { name, offset },
      );
    this.seen.set(name, offset + bytes.length);
    const { raw, widened, matrices, biases } = this.target.map;
    const base = raw.get(name);
    if (base !== undefined && !widened.has(name))
      new Uint8Array(this.target.memory()).set(bytes, base + offset);
    if (!widened.has(name) && !matrices.has(name) && !biases.has(name)) return;
    const parts = sections(spec);
    for (const section of parts) {
      const from = Math.max(0, section.offset - offset);
      const to = Math.min(bytes.length, section.offset + section.byteLength - offset);
      if (to > from)
        (isPlain(spec.codec) ? this.plain : this.integer).call(
          this,
          name,
          spec,
          section,
          offset + from - section.offset,
          bytes.subarray(from, to),
          offset + to === section.offset + section.byteLength,
        );
    }
  }

  /** @throws `WEIGHT_MISSING` when a weight that the Program reads has not come whole. */
  finish(): void {
    const { raw, matrices, biases } = this.target.map;
    for (const name of new Set([...raw.keys(), ...matrices.keys(), ...biases.keys()])) {
      const spec = this.specs.get(name)!;
      const last = sections(spec).at(-1)!;
      const got = this.seen.get(name) ?? 0;
      if (got < last.offset + last.byteLength)
        throw new AttenuateError(
          'WEIGHT_MISSING',
          `[load] weight ${name} is not whole: expected ${last.offset + last.byteLength} bytes, got ${got}. Fetch the model again.`,
          { name, got },
        );
    }
  }

  /** A piece of floats or whole numbers, from byte `at` of the weight on. */
  private plain(
    name: string,
    spec: WeightSpec,
    _section: Section,
    at: number,
    bytes: Uint8Array,
    last: boolean,
  ): void {
    const width = spec.codec.includes('32') ? 4 : 2;
    const joined = this.join(bytes);
    const whole = joined.length - (joined.length % width);
    const index = (at + bytes.length - joined.length) / width;
    const { widened, biases, matrices } = this.target.map;
    const halves = width === 2 && matrices.has(name);
    const read = !halves || widened.has(name) || biases.has(name);
    const floats = read ? this.floats(spec, joined.subarray(0, whole)) : new Float32Array(0);
    if (widened.has(name))
      new Float32Array(this.target.memory(), this.target.map.raw.get(name)!).set(floats, index);
    for (const { linear, part } of biases.get(name) ?? []) {
      const bias = new Float32Array(this.target.memory(), linear.bias, linear.columns);
      for (let i = 0; i < floats.length; i++) bias[linear.columnOf(part, index + i)] = floats[i];
    }
    this.pending = new Uint8Array(0);
    if (matrices.has(name)) {
      const columns = columnsOf(spec.shape);
      const rowBytes = columns * width;
      const done = whole - ((at + bytes.length - (joined.length - whole)) % rowBytes);
      const rows = Math.max(0, done / rowBytes);
      if (rows > 0)
        this.packRows(
          name,
          'values',
          halves
            ? joined.subarray(0, rows * rowBytes)
            : new Uint8Array(floats.buffer, floats.byteOffset, rows * rowBytes),
          rowBytes,
          index / columns,
          rows,
        );
      this.pending = joined.slice(rows * rowBytes);
    } else this.pending = joined.slice(whole);
    if (last) this.pending = new Uint8Array(0);
  }

  private join(bytes: Uint8Array): Uint8Array {
    if (!this.pending.length) return bytes;
    const out = new Uint8Array(this.pending.length + bytes.length);
    out.set(this.pending);
    out.set(bytes, this.pending.length);
    return out;
  }

  private floats(spec: WeightSpec, bytes: Uint8Array): Float32Array {
    if (spec.codec === 'float16') return decodeFloat16(bytes);
    if (spec.codec === 'bfloat16') return decodeBfloat16(bytes);
    // Copied with the constructor: `slice` of a Node Buffer is a view.
    const aligned = bytes.byteOffset % 4 ? new Uint8Array(bytes) : bytes;
    return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.length >> 2);
  }

  /** A piece of codes, scales or zero points: whole rows are packed, what is left of the last one waits. */
  private integer(
    name: string,
    spec: WeightSpec,
    section: Section,
    at: number,
    bytes: Uint8Array,
    last: boolean,
  ): void {
    if (!this.target.map.matrices.has(name)) return;
    const joined = this.join(bytes);
    this.pending = new Uint8Array(0);
    if (spec.codec === 'int8' && section.name === 'scales') {
      if (last) this.scales(name, spec, this.checkedScales(name, spec, joined));
      else this.pending = joined.slice();
      return;
    }
    const rowBytes = section.byteLength / rowsOf(spec.shape);
    const first = (at + bytes.length - joined.length) / rowBytes;
    const rows = Math.floor(joined.length / rowBytes);
    const whole = joined.subarray(0, rows * rowBytes);
    if (!last) this.pending = joined.slice(rows * rowBytes);
    if (section.name === 'scales') this.checkedScales(name, spec, whole);
    if (rows) this.packRows(name, section.name, whole, rowBytes, first, rows);
  }

  private packRows(
    name: string,
    section: Section['name'],
    bytes: Uint8Array,
    rowBytes: number,
    first: number,
    rows: number,
  ): void {
    const { staging, stagingBytes, pack } = this.target;
    const most = Math.floor(stagingBytes / rowBytes);
    for (const { linear, part } of this.target.map.matrices.get(name)!)
      for (let row = 0; row < rows; ) {
        const count = Math.min(most, rows - row, linear.runOf(part, first + row));
        new Uint8Array(this.target.memory()).set(
          bytes.subarray(row * rowBytes, (row + count) * rowBytes),
          staging,
        );
        pack(
          linear.packers[section]!,
          {
            from: staging,
            rowBytes,
            w: linear.w,
            panelBytes: linear.panelBytes,
            first: linear.columnOf(part, first + row),
            K: columnsOf(this.specs.get(name)!.shape),
            sums: linear.corrections,
            group: linear.group,
            scalesAt: linear.scalesAt,
            zerosAt: linear.zerosAt,
          },
          count,
        );
        row += count;
      }
  }

  /** @throws `WEIGHT_SCALE` */
  private checkedScales(name: string, spec: WeightSpec, bytes: Uint8Array): Float32Array {
    const scales = this.floats({ codec: scaleTypeOf(spec), shape: spec.shape }, bytes);
    for (const scale of scales)
      if (!(scale >= 0 && scale < Infinity))
        throw new AttenuateError(
          'WEIGHT_SCALE',
          `[load] bad scale in ${name}: expected a finite number ≥ 0, got ${scale}. Fetch or quantise the model again.`,
          { name, scale },
        );
    return scales;
  }

  /** Scales of int8 come after the codes, so each column's Σw is known: `correction = scale · Σw`. */
  private scales(name: string, spec: WeightSpec, source: Float32Array): void {
    for (const { linear, part } of this.target.map.matrices.get(name) ?? []) {
      const scales = new Float32Array(this.target.memory(), linear.scales, linear.columns);
      const sums = new Int32Array(this.target.memory(), linear.corrections, linear.columns);
      const corrections = new Float32Array(this.target.memory(), linear.corrections, linear.columns);
      for (let row = 0; row < rowsOf(spec.shape); row++) {
        const column = linear.columnOf(part, row);
        const scale = source[spec.perTensor ? 0 : row];
        scales[column] = scale;
        corrections[column] = scale * sums[column];
      }
    }
  }
}
