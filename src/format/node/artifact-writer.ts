import { randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Model } from '../../model/config.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { layoutArtifact, NO_HASH } from '../artifact-layout.ts';
import type { Probe } from '../probe.ts';
import { BlockHash } from '../sha256.ts';
import { syncFolder } from './whole-file.ts';

export interface WriteOptions {
  /** What the reference makes of exactly this model (`probeModel`): devices are held to it when they load the artifact. */
  probe?: Probe;
  signal?: AbortSignal;
  onProgress?: (progress: { writtenBytes: number; totalBytes: number }) => void;
}

export interface WrittenArtifact {
  readonly hash: string;
  readonly byteLength: number;
}

/**
 * Writes a model to one file, one weight in memory at a time. The file appears under its name only when it is
 * complete and on the disk: it is written under a temporary name in the same folder, synced and renamed; a failure or
 * an abort removes the temporary file and leaves what was there before.
 * @throws `ARTIFACT_WRITE` when the folder cannot be written to; as `layoutArtifact` and its `data`; the signal's reason
 */
export async function writeArtifact(
  model: Model,
  path: string,
  options: WriteOptions = {},
): Promise<WrittenArtifact> {
  const { signal, onProgress } = options;
  signal?.throwIfAborted();
  const layout = layoutArtifact(model, options.probe);
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.partial`);
  try {
    const file = await open(temporary, 'wx');
    let digest: string;
    try {
      const hash = new BlockHash();
      let at = 0;
      const write = async (bytes: Uint8Array) => {
        await writeAll(file, bytes, at);
        at += bytes.length;
        onProgress?.({ writtenBytes: at, totalBytes: layout.byteLength });
      };
      await write(layout.header(NO_HASH));
      for await (const bytes of layout.data(signal)) {
        await hash.update(bytes);
        await write(bytes);
      }
      digest = await hash.digest();
      await writeAll(file, layout.header(digest), 0);
      await file.sync();
    } finally {
      await file.close();
    }
    signal?.throwIfAborted();
    await rename(temporary, path);
    await syncFolder(dirname(path));
    return { hash: digest, byteLength: layout.byteLength };
  } catch (error) {
    await rm(temporary, { force: true });
    const code = (error as NodeJS.ErrnoException).code;
    if (error instanceof AttenuateError || typeof code !== 'string' || !('syscall' in (error as object)))
      throw error;
    throw new AttenuateError(
      'ARTIFACT_WRITE',
      `[artifact] file that cannot be written: expected to write ${path}, got ${code}. Check the folder, its permissions and the free space.`,
      { path, reason: code },
      { cause: error },
    );
  }
}

async function writeAll(
  file: Awaited<ReturnType<typeof open>>,
  bytes: Uint8Array,
  position: number,
): Promise<void> {
  for (let at = 0; at < bytes.length; )
    at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
}
