import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../format/node/whole-file.ts';
import { StatisticsCache } from './statistics-cache.ts';

/**
 * Where finished parts of a run are kept, so that a run that was cut short goes on. Each file is written under
 * another name, synced and renamed: what has its final name is whole.
 */
export class WorkFolder {
  readonly path: string;
  /** Statistics of text that steps are calibrated on. */
  readonly statistics: StatisticsCache;

  private constructor(path: string) {
    this.path = path;
    this.statistics = new StatisticsCache(path);
  }

  /** Opens `<out>/.attenuate-work`; without `resume`, empty. Leftovers of writes that were cut short are removed. */
  static async open(out: string, resume: boolean): Promise<WorkFolder> {
    const folder = new WorkFolder(join(out, '.attenuate-work'));
    if (!resume) await rm(folder.path, { recursive: true, force: true });
    await mkdir(folder.path, { recursive: true });
    for (const name of await readdir(folder.path))
      if (!/^[0-9a-f]{64}\.(json|f32|stats)$/.test(name)) await folder.remove(name);
    return folder;
  }

  at(name: string): string {
    return join(this.path, name);
  }

  /** The JSON kept under a key; null when there is none, or when it cannot be read. */
  async readJson<T>(key: string): Promise<T | null> {
    try {
      return JSON.parse(await readFile(this.at(`${key}.json`), 'utf8'));
    } catch {
      return null;
    }
  }

  async writeJson(key: string, value: unknown): Promise<void> {
    await writeWhole(this.at(`${key}.json`), [JSON.stringify(value)]);
  }

  /** Float32 rows kept under a key; null when there are not `count` rows of `width`. */
  async readRows(key: string, count: number, width: number): Promise<Float32Array[] | null> {
    const bytes = await readFile(this.at(`${key}.f32`)).catch(() => null);
    if (bytes?.length !== count * width * 4) return null;
    const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    return Array.from({ length: count }, (_, i) => all.subarray(i * width, (i + 1) * width));
  }

  async remove(name: string): Promise<void> {
    await rm(this.at(name), { recursive: true, force: true });
  }
}
