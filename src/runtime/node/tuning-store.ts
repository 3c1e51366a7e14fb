import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { cpus, homedir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Tiles } from '../../backend/wasm/kernels/kernel.ts';

/** One file for the user: tiles by engine, processor and instruction features. */
export const tuningFile = (): string =>
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'attenuate', 'tiles.json');

const deviceKey = (key: string): string =>
  `v8 ${process.versions.v8} · ${cpus()[0]?.model ?? process.arch} · ${key}`;

async function all(): Promise<Record<string, Tiles>> {
  try {
    return JSON.parse(await readFile(tuningFile(), 'utf8'));
  } catch {
    return {};
  }
}

const isTile = (n: unknown): n is number => Number.isInteger(n) && (n as number) >= 1 && (n as number) <= 8;

/** Tiles that were found best on this device, or null. */
export async function rememberedTiles(key: string): Promise<Tiles | null> {
  const found = (await all())[deviceKey(key)];
  return found && isTile(found.float32) && isTile(found.int8)
    ? { float32: found.float32, int8: found.int8 }
    : null;
}

export async function rememberTiles(key: string, tiles: Tiles): Promise<void> {
  const file = tuningFile();
  await mkdir(dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  await writeFile(temporary, JSON.stringify({ ...(await all()), [deviceKey(key)]: tiles }, null, 2));
  await rename(temporary, file);
}
