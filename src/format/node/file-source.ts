import { open } from 'node:fs/promises';
import { AttenuateError } from '../../tensor/error.ts';
import { type ByteSource, CHUNK_BYTES, truncated } from '../byte-source.ts';

/**
 * A source over a file, read in chunks of at most 1 MiB through one reused buffer.
 * @throws `FILE_OPEN` when there is no such file or it may not be read
 */
export async function fileSource(path: string): Promise<ByteSource> {
  const handle = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    throw new AttenuateError(
      'FILE_OPEN',
      `[open] file that cannot be read: expected ${path}, got ${error.code ?? error.message}. Check the path.`,
      { path, reason: error.code },
      { cause: error },
    );
  });
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw new AttenuateError(
      'FILE_OPEN',
      `[open] not a file: expected a regular file, got ${path}. Pass the path of a file.`,
      { path },
    );
  }
  const size = stat.size;
  let closed = false;
  return {
    size,
    randomAccess: true,
    async read(offset, length) {
      if (offset + length > size) throw truncated(offset, length, size);
      const out = new Uint8Array(length);
      for (let at = 0; at < length; ) {
        const { bytesRead } = await handle.read(
          out,
          at,
          Math.min(length - at, CHUNK_BYTES * 16),
          offset + at,
        );
        if (bytesRead === 0) throw truncated(offset, length, offset + at);
        at += bytesRead;
      }
      return out;
    },
    async *stream(signal) {
      const buffer = new Uint8Array(Math.min(CHUNK_BYTES, size));
      for (let at = 0; at < size; ) {
        signal?.throwIfAborted();
        const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, size - at), at);
        if (bytesRead === 0) throw truncated(at, size - at, at);
        yield buffer.subarray(0, bytesRead);
        at += bytesRead;
      }
    },
    async close() {
      if (!closed) {
        closed = true;
        await handle.close();
      }
    },
  };
}
