import type { PoolMember } from '../backend/wasm/pool.ts';
import type { Platform } from './platform.ts';

/** @param workerUrl the file that helper threads are workers of: the one of the worker that holds the model */
export const browserPlatform = (workerUrl: string | null): Platform => {
  const threads = workerUrl !== null && globalThis.crossOriginIsolated === true;
  return {
    name: 'browser',
    defaultThreads: threads ? navigator.hardwareConcurrency || 1 : 1,
    maxThreads: threads ? navigator.hardwareConcurrency || 1 : 1,
    threadsReason:
      workerUrl === null
        ? "a page's own thread may not wait for others"
        : 'the page is not cross-origin isolated (COOP and COEP headers)',
    enableWide: () => false,
    spawn: async (members: readonly PoolMember[]) => {
      const workers = members.map((member) => {
        const worker = new Worker(workerUrl!, { type: 'module' });
        worker.postMessage({ kind: 'serve', member });
        return worker;
      });
      await Promise.all(
        workers.map(
          (worker) =>
            new Promise<void>((resolve, reject) => {
              worker.onmessage = () => resolve();
              worker.onerror = reject;
            }),
        ),
      );
      return { terminate: () => workers.forEach((w) => void w.terminate()) };
    },
  };
};
