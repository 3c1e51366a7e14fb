import type { Tiles } from '../../backend/wasm/kernels/kernel.ts';
import { deviceFile, deviceKey, readDeviceFile, writeDeviceFile } from './device-store.ts';

const NAME = 'tiles.json';

/** One file for the user: tiles by engine, processor and instruction features. */
export const tuningFile = (): string => deviceFile(NAME);

const isTile = (n: unknown): n is number => Number.isInteger(n) && (n as number) >= 1 && (n as number) <= 8;

/** Tiles that were found best on this device, or null. */
export async function rememberedTiles(key: string): Promise<Tiles | null> {
  const found = (await readDeviceFile(NAME))[deviceKey(key)] as Partial<Tiles> | undefined;
  return found && isTile(found.float32) && isTile(found.int8)
    ? { float32: found.float32, int8: found.int8 }
    : null;
}

export async function rememberTiles(key: string, tiles: Tiles): Promise<void> {
  await writeDeviceFile(NAME, { ...(await readDeviceFile(NAME)), [deviceKey(key)]: tiles });
}
