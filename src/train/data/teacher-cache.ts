import { open, readFile, stat } from 'node:fs/promises';
import { writeWhole } from '../../format/node/whole-file.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { decodeFloat16, encodeFloat16 } from '../../tensor/half.ts';

export interface TeacherCacheOptions {
  /** File of the rows; `<path>.json` beside it says what they are. */
  readonly path: string;
  /** Names teacher and texts: rows made under another key are thrown away. */
  readonly key: string;
  readonly texts: number;
  /** Numbers in a row. */
  readonly width: number;
  /** Most bytes on the disk. */
  readonly limitBytes: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { done: number; total: number }) => void;
}

interface Manifest {
  readonly key: string;
  readonly width: number;
  readonly rows: number;
}

/** Rows computed between two syncs: what a kill can cost. */
const CHUNK = 2048;

/**
 * A teacher's outputs on disk as float16, one row a text, in the order of the texts. Rows that an earlier call made
 * are kept: a run that was cut short goes on where it was.
 * @param rowsOf the teacher's rows for texts `from` … `to` (exclusive)
 * @throws `CACHE_LIMIT` before anything is computed; the signal's reason, what was finished being kept
 */
export async function fillTeacherCache(
  options: TeacherCacheOptions,
  rowsOf: (from: number, to: number, signal?: AbortSignal) => Promise<readonly Float32Array[]>,
): Promise<void> {
  const { path, key, texts, width, limitBytes, signal, onProgress } = options;
  const needed = texts * width * 2;
  if (needed > limitBytes)
    throw new AttenuateError(
      'CACHE_LIMIT',
      `[distill] teacher outputs need more disk than allowed: expected at most ${limitBytes} bytes, got ${needed} for ${texts} texts. Raise the limit or use fewer texts.`,
      { needed, limitBytes },
    );
  const { rows } = await readManifest(path, key, width);
  const file = await open(path, rows > 0 ? 'r+' : 'w');
  try {
    await file.truncate(rows * width * 2);
    for (let from = rows; from < texts; from += CHUNK) {
      signal?.throwIfAborted();
      const to = Math.min(from + CHUNK, texts);
      const made = await rowsOf(from, to, signal);
      const flat = new Float32Array((to - from) * width);
      made.forEach((row, i) => {
        flat.set(row, i * width);
      });
      await file.write(encodeFloat16(flat), 0, flat.length * 2, from * width * 2);
      await file.sync();
      await writeWhole(`${path}.json`, [JSON.stringify({ key, width, rows: to } satisfies Manifest)]);
      onProgress?.({ done: to, total: texts });
    }
  } finally {
    await file.close();
  }
}

/** What a cache holds so far, all of it in memory as float16 and a row at a time as floats. */
export async function openTeacherCache(
  path: string,
  key: string,
  width: number,
): Promise<{ readonly rows: number; row(index: number): Float32Array }> {
  const { rows } = await readManifest(path, key, width);
  const bytes = rows > 0 ? (await readFile(path)).subarray(0, rows * width * 2) : new Uint8Array(0);
  return {
    rows,
    row: (index) => decodeFloat16(bytes.subarray(index * width * 2, (index + 1) * width * 2)),
  };
}

async function readManifest(path: string, key: string, width: number): Promise<Manifest> {
  const none = { key, width, rows: 0 };
  try {
    const manifest: Manifest = JSON.parse(await readFile(`${path}.json`, 'utf8'));
    const { size } = await stat(path);
    const whole =
      manifest.key === key &&
      manifest.width === width &&
      Number.isInteger(manifest.rows) &&
      manifest.rows >= 0 &&
      size >= manifest.rows * width * 2;
    return whole ? manifest : none;
  } catch {
    return none;
  }
}
