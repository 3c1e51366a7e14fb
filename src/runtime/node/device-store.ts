import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { cpus, homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** A file of what was found out on this device, one for the user. */
export const deviceFile = (name: string): string =>
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'attenuate', name);

/** Engine and processor: what was found out under others does not hold. */
export const deviceKey = (key: string): string =>
  `v8 ${process.versions.v8} · ${cpus()[0]?.model ?? process.arch} · ${key}`;

/** What a file holds, by key; nothing where it is missing or damaged. */
export async function readDeviceFile(name: string): Promise<Record<string, unknown>> {
  try {
    const found: unknown = JSON.parse(await readFile(deviceFile(name), 'utf8'));
    return typeof found === 'object' && found !== null ? (found as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

export async function writeDeviceFile(name: string, value: Record<string, unknown>): Promise<void> {
  const file = deviceFile(name);
  await mkdir(dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  await writeFile(temporary, JSON.stringify(value, null, 2));
  await rename(temporary, file);
}
