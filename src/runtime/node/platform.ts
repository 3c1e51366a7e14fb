import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import type { PoolMember } from '../../backend/wasm/pool.ts';
import type { Platform } from '../platform.ts';
import { recentV8 } from '../this-thread.ts';
import { agreementStore } from './agreement-store.ts';
import { rememberedTiles } from './tuning-store.ts';

/** This file stands as .ts in the sources and as .js where it was built; the worker stands beside it, alike. */
const workerUrl = new URL(
  import.meta.url.endsWith('.ts') ? './pool-worker.ts' : './pool-worker.js',
  import.meta.url,
);

/** Flags of the process such as `--input-type` belong to its own script, not to the worker's. */
async function spawn(members: readonly PoolMember[]): Promise<{ terminate(): void }> {
  const workers = members.map((workerData) => new Worker(workerUrl, { workerData, execArgv: [] }));
  await Promise.all(
    workers.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          worker.once('message', () => resolve());
          worker.once('error', reject);
        }),
    ),
  );
  for (const worker of workers) worker.unref();
  return { terminate: () => workers.forEach((w) => void w.terminate()) };
}

const recent = recentV8();

let wide = false;
/** The flag holds for the whole process. */
function enableWide(): boolean {
  if (!wide && recent) {
    setFlagsFromString('--experimental-wasm-revectorize');
    wide = true;
  }
  return wide;
}

export const nodePlatform: Platform = {
  name: 'node',
  defaultThreads: 1,
  maxThreads: availableParallelism(),
  spawn,
  enableWide,
  keepsSixRows: recent,
  rememberedTiles,
  agreements: agreementStore,
};
