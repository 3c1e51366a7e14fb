import { readFile, stat } from 'node:fs/promises';
import { AttenuateError } from '../../tensor/error.ts';
import { parseJson } from '../json.ts';

export type JsonObject = Record<string, unknown>;

export const isObject = (x: unknown): x is JsonObject =>
  typeof x === 'object' && x !== null && !Array.isArray(x);

export const isFile = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => null))?.isFile() ?? false;

export const isFolder = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => null))?.isDirectory() ?? false;

const MAX_JSON_BYTES = 256 * 2 ** 20;

/** The parsed file, or null when there is none. @throws `FILE_JSON` when it is not JSON or absurdly long */
export async function readJsonFile(path: string): Promise<unknown> {
  const found = await stat(path).catch(() => null);
  if (!found?.isFile()) return null;
  if (found.size > MAX_JSON_BYTES)
    throw new AttenuateError(
      'FILE_JSON',
      `[open] JSON file too long: expected at most ${MAX_JSON_BYTES} bytes, got ${found.size} in ${path}. Check the file.`,
      { path, size: found.size },
    );
  return parseJson(await readFile(path), path, 'FILE_JSON');
}

/** As `readJsonFile`, for files that hold an object. */
export async function readJsonObject(path: string): Promise<JsonObject | null> {
  const value = await readJsonFile(path);
  if (value === null || isObject(value)) return value;
  throw new AttenuateError(
    'FILE_JSON',
    `[open] JSON of another kind: expected an object, got ${Array.isArray(value) ? 'an array' : typeof value} in ${path}. Check the file.`,
    { path },
  );
}
