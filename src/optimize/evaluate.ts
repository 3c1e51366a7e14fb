import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { AttenuateError } from '../tensor/error.ts';
import type { ChildMessage, MeasureJob, Measurement, MeasureProgress } from './measurement.ts';

export interface MeasureOptions {
  signal?: AbortSignal;
  onProgress?: (progress: MeasureProgress) => void;
  /** The module that the child process runs. */
  child?: URL;
}

/** Gives the measurement of one artifact; `measureArtifact` is the real one. */
export type Measure = (job: MeasureJob, options?: MeasureOptions) => Promise<Measurement>;

const STDERR_TAIL = 4000;

/** The source when this is the source, the compiled file when this is compiled. */
const defaultChild = () =>
  new URL(import.meta.url.endsWith('.ts') ? './evaluate-child.ts' : './evaluate-child.js', import.meta.url);

/**
 * Measures an artifact in a fresh process, so that memory counts only this model and a crash loses only this
 * candidate. @throws `CANDIDATE_CRASHED`, or what the child reports; the signal's reason after an abort
 */
export const measureArtifact: Measure = async (job, { signal, onProgress, child = defaultChild() } = {}) => {
  signal?.throwIfAborted();
  const path = fileURLToPath(child);
  if (path.endsWith('.ts') && !process.features.typescript)
    throw new AttenuateError(
      'NODE_TOO_OLD',
      `[optimize] sources need type stripping: expected Node 22.18 or later, got ${process.versions.node}. Run the built package, or a later Node.`,
      { version: process.versions.node },
    );
  const running = fork(path, [], {
    execArgv: ['--expose-gc'],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  running.stderr?.on('data', (chunk) => {
    stderr = (stderr + chunk).slice(-STDERR_TAIL);
  });
  return new Promise<Measurement>((resolve, reject) => {
    const finish = (act: () => void) => {
      signal?.removeEventListener('abort', abort);
      running.kill('SIGKILL');
      act();
    };
    const abort = () => finish(() => reject(signal!.reason));
    signal?.addEventListener('abort', abort, { once: true });
    running.on('error', (error) => finish(() => reject(error)));
    running.on('close', (code, by) =>
      finish(() =>
        reject(
          new AttenuateError(
            'CANDIDATE_CRASHED',
            `[optimize] the measuring process ended: expected a measurement, got ${by ?? `exit code ${code}`}. ${lastLine(stderr)}`,
            { exitCode: code, signal: by, stderr },
          ),
        ),
      ),
    );
    running.on('message', (message: ChildMessage) => {
      if (message.kind === 'ready') running.send(job);
      else if (message.kind === 'progress') onProgress?.(message.progress);
      else if (message.kind === 'done') finish(() => resolve(message.measurement));
      else finish(() => reject(new AttenuateError(message.code, message.message)));
    });
  });
};

function lastLine(stderr: string): string {
  const line = stderr
    .split('\n')
    .map((l) => l.trim())
    .findLast((l) => /error/i.test(l) && !l.startsWith('at '));
  return line ? `It said: ${line}` : 'Check that the machine has memory to spare.';
}
