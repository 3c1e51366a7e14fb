import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InputObserver, type ObserverState } from '../compress/index.ts';
import { writeWhole } from '../format/node/whole-file.ts';

/** Where a pass over text stands: texts done, and the state of each input's observer with its sum of products. */
export interface SavedPass {
  readonly done: number;
  readonly inputs: readonly SavedInput[];
}

export interface SavedInput {
  readonly state: ObserverState;
  /** `Σ x xᵀ`, `[columns, columns]`; null where it is not taken. */
  readonly total: Float32Array | null;
}

interface Header {
  readonly done: number;
  readonly inputs: readonly (Omit<ObserverState, 'arrays'> & { readonly moments: boolean })[];
}

const EXTENSION = '.stats';
const DEFAULT_BYTES = 2 ** 30;
const MAX_HEADER = 2 ** 24;
const LEFTOVER_MS = 3_600_000;

/**
 * Statistics of inputs on disk, in a folder of the user's own: by key, written whole under another name and renamed.
 * When there are more than `maxBytes`, those that were written first go.
 */
export class StatisticsCache {
  private readonly folder: string;
  private readonly maxBytes: number;

  constructor(folder: string, maxBytes = DEFAULT_BYTES) {
    this.folder = folder;
    this.maxBytes = maxBytes;
  }

  /**
   * What was kept under a key for inputs of these widths; null where there is none, or none that can be read. With
   * `moments`, sums of products have to be there; without, they may be.
   */
  async read(key: string, columns: readonly number[], moments: boolean): Promise<SavedPass | null> {
    const bytes = await readFile(this.pathOf(key)).catch(() => null);
    if (!bytes || bytes.length < 4) return null;
    const length = bytes.readUInt32LE(0);
    if (length > MAX_HEADER || 4 + length > bytes.length) return null;
    let header: Header;
    try {
      header = JSON.parse(bytes.toString('utf8', 4, 4 + length));
    } catch {
      return null;
    }
    const fits =
      header.inputs?.length === columns.length &&
      header.inputs.every((input, i) => input.columns === columns[i] && (input.moments || !moments));
    if (!fits) return null;
    let at = 4 + length;
    const take = <T extends Float32Array | Float64Array>(array: T): T => {
      const to = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      to.set(bytes.subarray(at, at + array.byteLength));
      at += array.byteLength;
      return array;
    };
    const sizes = columns.map((count) => new InputObserver(count).state().arrays);
    const expected = sizes.reduce(
      (sum, arrays, i) =>
        sum +
        arrays.reduce((s, { byteLength }) => s + byteLength, 0) +
        (header.inputs[i].moments ? columns[i] ** 2 * 4 : 0),
      at,
    );
    if (expected !== bytes.length) return null;
    return {
      done: header.done,
      inputs: header.inputs.map(({ moments: kept, ...state }, i) => ({
        state: { ...state, arrays: sizes[i].map(take) },
        total: kept ? take(new Float32Array(columns[i] ** 2)) : null,
      })),
    };
  }

  async write(key: string, { done, inputs }: SavedPass): Promise<void> {
    const header: Header = {
      done,
      inputs: inputs.map(({ state: { arrays: _, ...rest }, total }) => ({
        ...rest,
        moments: total !== null,
      })),
    };
    const text = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.length);
    await mkdir(this.folder, { recursive: true });
    const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array | Float64Array) =>
      new Uint8Array(buffer, byteOffset, byteLength);
    const arrays = inputs.flatMap(({ state, total }) => (total ? [...state.arrays, total] : state.arrays));
    await writeWhole(this.pathOf(key), [length, text, ...arrays.map(bytesOf)]);
    await this.trim(key);
  }

  private pathOf(key: string): string {
    return join(this.folder, key + EXTENSION);
  }

  private async trim(kept: string): Promise<void> {
    const names = (await readdir(this.folder)).filter((name) => name.includes(EXTENSION));
    const files = await Promise.all(
      names.map(async (name) => {
        const info = await stat(join(this.folder, name)).catch(() => null);
        return { name, bytes: info?.size ?? 0, written: info?.mtimeMs ?? 0 };
      }),
    );
    let total = files.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { name, bytes, written } of files.sort((a, b) => a.written - b.written)) {
      // What a process that was killed left half written.
      const leftover = !name.endsWith(EXTENSION) && Date.now() - written > LEFTOVER_MS;
      if (name === kept + EXTENSION || (total <= this.maxBytes && !leftover)) continue;
      await rm(join(this.folder, name), { force: true });
      total -= bytes;
    }
  }
}
