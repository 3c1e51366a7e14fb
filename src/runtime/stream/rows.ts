/** Numbers of rows, ascending: the first `count` of `list`. */
export interface RowList {
  readonly list: Int32Array;
  count: number;
}

export const rowList = (capacity: number): RowList => ({ list: new Int32Array(capacity), count: 0 });

/** Rows kept between pushes, `[lead, capacity, width]`: their place does not move when the text grows by a few. */
export class RowStore {
  readonly lead: number;
  readonly width: number;
  private capacity = 0;
  private data = new Float32Array(0);
  /** The same bytes, for comparisons to the bit. */
  private bits = new Int32Array(0);

  constructor(lead: number, width: number) {
    this.lead = lead;
    this.width = width;
  }

  get bytes(): number {
    return this.data.byteLength;
  }

  /** Makes room for `rows`; what is there stays. */
  reserve(rows: number): void {
    if (rows <= this.capacity) return;
    const { lead, width, capacity, data } = this;
    const more = Math.max(rows, Math.ceil(capacity * 1.5), 16);
    const grown = new Float32Array(lead * more * width);
    for (let h = 0; h < lead; h++)
      grown.set(data.subarray(h * capacity * width, (h + 1) * capacity * width), h * more * width);
    this.capacity = more;
    this.data = grown;
    this.bits = new Int32Array(grown.buffer);
  }

  /** Puts some rows, one behind the other, into a view `[lead, rows, width]`; rows of it beyond them become 0. */
  gather({ list, count }: RowList, into: Float32Array, rows: number): void {
    const { lead, width, capacity, data } = this;
    for (let h = 0; h < lead; h++) {
      eachRun(list, count, (i, row, length) => {
        const from = (h * capacity + row) * width;
        into.set(data.subarray(from, from + length * width), (h * rows + i) * width);
      });
      into.fill(0, (h * rows + count) * width, (h + 1) * rows * width);
    }
  }

  /** Takes rows from a view `[lead, rows, width]`, the i-th of it as row `list[i]`. */
  scatter({ list, count }: RowList, from: Float32Array, rows: number): void {
    const { lead, width, capacity, data } = this;
    for (let h = 0; h < lead; h++)
      eachRun(list, count, (i, row, length) => {
        const at = (h * rows + i) * width;
        data.set(from.subarray(at, at + length * width), (h * capacity + row) * width);
      });
  }

  /** Puts the first rows into a view `[lead, rows, width]`. */
  copyTo(into: Float32Array, rows: number): void {
    const { lead, width, capacity, data } = this;
    for (let h = 0; h < lead; h++) {
      const from = h * capacity * width;
      into.set(data.subarray(from, from + rows * width), h * rows * width);
    }
  }

  /** Takes the first rows from a view `[lead, rows, width]`. */
  copyFrom(from: Float32Array, rows: number): void {
    const { lead, width, capacity, data } = this;
    for (let h = 0; h < lead; h++)
      data.set(from.subarray(h * rows * width, (h + 1) * rows * width), h * capacity * width);
  }

  /** Makes some rows those of another store of the same form. */
  take(other: RowStore, { list, count }: RowList): void {
    const { lead, width, capacity, data } = this;
    for (let h = 0; h < lead; h++)
      eachRun(list, count, (_, row, length) => {
        const from = (h * other.capacity + row) * width;
        data.set(other.data.subarray(from, from + length * width), (h * capacity + row) * width);
      });
  }

  /**
   * Whether a row lies further than threshold · ‖row of `reference`‖ from it (Euclidean, over all heads). With
   * threshold 0: whether any bit differs. What is not a number always differs.
   */
  differs(reference: RowStore, row: number, threshold: number): boolean {
    const { lead, width, capacity } = this;
    let [distance, norm] = [0, 0];
    for (let h = 0; h < lead; h++) {
      const a = (h * capacity + row) * width;
      const b = (h * reference.capacity + row) * width;
      if (threshold === 0) {
        const [x, y] = [this.bits, reference.bits];
        for (let i = 0; i < width; i++) if (x[a + i] !== y[b + i]) return true;
      } else {
        const [x, y] = [this.data, reference.data];
        for (let i = 0; i < width; i++) {
          const was = y[b + i];
          const d = x[a + i] - was;
          distance += d * d;
          norm += was * was;
        }
      }
    }
    return threshold > 0 && !(distance <= threshold * threshold * norm);
  }
}

/** Neighbouring rows are moved together. */
function eachRun(
  list: Int32Array,
  count: number,
  body: (index: number, row: number, length: number) => void,
): void {
  for (let i = 0; i < count; ) {
    let end = i + 1;
    while (end < count && list[end] === list[end - 1] + 1) end++;
    body(i, list[i], end - i);
    i = end;
  }
}
