import { bytesSource } from './byte-source.ts';
import type { FileStore } from './file-store.ts';

/**
 * Files of a folder in the origin private file system (WHATWG File System Standard): they stay when the page is closed,
 * until the browser's data of this origin is cleared.
 */
export async function originFiles(folder: string): Promise<FileStore> {
  const root = await navigator.storage.getDirectory();
  const place = await root.getDirectoryHandle(folder, { create: true });
  const known = (name: string) =>
    place.getFileHandle(name).catch((error: DOMException) => {
      if (error.name === 'NotFoundError') return null;
      throw error;
    });
  const put = async (name: string, keep: boolean, parts: readonly (string | Uint8Array)[]): Promise<void> => {
    const file = await place.getFileHandle(name, { create: true });
    // What is written shows only when the stream is closed.
    const stream = await file.createWritable({ keepExistingData: keep });
    try {
      if (keep) await stream.seek((await file.getFile()).size);
      for (const part of parts) await stream.write(part as string | Uint8Array<ArrayBuffer>);
      await stream.close();
    } catch (error) {
      await stream.abort().catch(() => {});
      throw error;
    }
  };
  return {
    async open(name) {
      const file = await (await known(name))?.getFile();
      // A file is made empty before its first bytes are there.
      return file?.size ? bytesSource(await file.arrayBuffer()) : null;
    },
    write: (name, parts) => put(name, false, parts),
    append: (name, text) => put(name, true, [text]),
    async names() {
      const out: string[] = [];
      for await (const name of place.keys()) out.push(name);
      return out;
    },
  };
}
