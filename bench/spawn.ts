import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { LoadOptions } from '../src/runtime/types.ts';
import type { GraphKind } from './bert-onnx.ts';
import type { PeerName } from './peers.ts';

export interface ChildTask {
  readonly engine: 'attenuate' | PeerName;
  /** An artifact for us, an ONNX graph for a peer. */
  readonly file: string;
  readonly ids: readonly number[];
  readonly options?: LoadOptions;
  readonly kind?: GraphKind;
  /** Width of the peer's hidden states. */
  readonly width?: number;
  readonly watchMemory?: boolean;
  /** Of memory what is held alone: garbage is collected before it is counted, and the code has run once before. */
  readonly heldOnly?: boolean;
  /** Time to spend on warm runs after the first. */
  readonly warmRunMs?: number;
}

export interface ChildResult {
  /** Load and first embedding. */
  readonly firstMs: number;
  /** Most memory held above the process before loading: WebAssembly memory, ArrayBuffers and heap. */
  readonly peakBytes: number | null;
  readonly plannedBytes: number | null;
  readonly runMs: number | null;
  readonly output: readonly number[];
}

const CHILD = fileURLToPath(new URL('./child.ts', import.meta.url));

/** Runs a task in a fresh process. @throws with the process's last words when it fails or takes too long. */
export function inChild(task: ChildTask, timeoutMs = 300_000): Promise<ChildResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--expose-gc', '--no-warnings', CHILD, JSON.stringify(task)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
    });
    let out = '';
    let errors = '';
    child.stdout.on('data', (piece) => (out += piece));
    child.stderr.on('data', (piece) => (errors += piece));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const line = out.trim().split('\n').at(-1) ?? '';
      if (code === 0 && line.startsWith('{')) {
        const reply: ChildResult | { error: string } = JSON.parse(line);
        if ('error' in reply) reject(new Error(reply.error));
        else resolve(reply);
      } else if (signal === 'SIGTERM') reject(new Error(`not finished in ${timeoutMs / 1000} s`));
      else reject(new Error(lastWords(errors) ?? `the process ended with ${signal ?? code}`));
    });
  });
}

/** The line of an error output that names the error. */
function lastWords(errors: string): string | undefined {
  const lines = errors.split('\n').map((line) => line.trim());
  return (lines.find((line) => /error|abort|memory/i.test(line)) ?? lines.find((line) => line))?.slice(
    0,
    200,
  );
}
