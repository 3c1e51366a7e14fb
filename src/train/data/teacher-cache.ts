import type { FileStore } from '../../format/file-store.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { decodeFloat16, encodeFloat16 } from '../../tensor/half.ts';

export interface TeacherRows {
  /** Names teacher and texts: what files of rows are called after. */
  readonly key: string;
  readonly texts: number;
  /** Numbers in a row. */
  readonly width: number;
}

export interface TeacherCacheOptions extends TeacherRows {
  /** Most bytes of rows. */
  readonly limitBytes: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { done: number; total: number }) => void;
}

/** Rows of a file: what a kill can cost. */
const CHUNK = 2048;

/**
 * A teacher's outputs as float16, one row a text, in the order of the texts. Files of rows that an earlier call made
 * are kept: a run that was cut short goes on where it was.
 * @param rowsOf the teacher's rows for texts `from` … `to` (exclusive)
 * @throws `CACHE_LIMIT` before anything is computed; the signal's reason, what was finished being kept
 */
export async function fillTeacherCache(
  files: FileStore,
  { limitBytes, signal, onProgress, ...rows }: TeacherCacheOptions,
  rowsOf: (from: number, to: number, signal?: AbortSignal) => Promise<readonly Float32Array[]>,
): Promise<void> {
  const { texts, width } = rows;
  const needed = texts * width * 2;
  if (needed > limitBytes)
    throw new AttenuateError(
      'CACHE_LIMIT',
      `[distill] teacher outputs need more room than allowed: expected at most ${limitBytes} bytes, got ${needed} for ${texts} texts. Raise the limit or use fewer texts.`,
      { needed, limitBytes },
    );
  for (const { name, from, to, bytes } of chunks(rows)) {
    if (await isWhole(files, name, bytes)) continue;
    signal?.throwIfAborted();
    const made = await rowsOf(from, to, signal);
    const flat = new Float32Array((to - from) * width);
    made.forEach((row, i) => {
      flat.set(row, i * width);
    });
    await files.write(name, [encodeFloat16(flat)]);
    onProgress?.({ done: to, total: texts });
  }
}

/**
 * The rows of a cache, all of them in memory as float16 and a row at a time as floats.
 * @throws `CACHE_DAMAGED` where rows are not there
 */
export async function openTeacherCache(
  files: FileStore,
  rows: TeacherRows,
): Promise<(text: number) => Float32Array> {
  const { texts, width } = rows;
  const all = new Uint8Array(texts * width * 2);
  for (const { name, from, bytes } of chunks(rows)) {
    const source = (await isWhole(files, name, bytes)) ? await files.open(name) : null;
    if (!source)
      throw new AttenuateError(
        'CACHE_DAMAGED',
        `[distill] teacher outputs that are not there: expected ${bytes} bytes of ${name}, got a file of another length or none. Start again: they are computed anew.`,
        { name, bytes },
      );
    all.set(await source.read(0, bytes), from * width * 2);
    await source.close();
  }
  return (text) => decodeFloat16(all.subarray(text * width * 2, (text + 1) * width * 2));
}

const chunks = ({ key, texts, width }: TeacherRows) =>
  Array.from({ length: Math.ceil(texts / CHUNK) }, (_, i) => {
    const [from, to] = [i * CHUNK, Math.min((i + 1) * CHUNK, texts)];
    return { name: `teacher-${key}-${i}.f16`, from, to, bytes: (to - from) * width * 2 };
  });

async function isWhole(files: FileStore, name: string, bytes: number): Promise<boolean> {
  const source = await files.open(name);
  await source?.close();
  return source?.size === bytes;
}
