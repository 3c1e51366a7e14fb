import { existsSync } from 'node:fs';
import { appendFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileStore } from '../file-store.ts';
import { fileSource } from './file-source.ts';
import { writeWhole } from './whole-file.ts';

/** The files of a folder, which must exist. */
export const folderFiles = (folder: string): FileStore => ({
  async open(name) {
    const path = join(folder, name);
    return existsSync(path) ? fileSource(path) : null;
  },
  write: (name, parts) => writeWhole(join(folder, name), parts),
  append: (name, text) => appendFile(join(folder, name), text),
  names: () => readdir(folder),
});
