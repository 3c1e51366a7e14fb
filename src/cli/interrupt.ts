import { AttenuateError } from '../tensor/error.ts';
import { EXIT } from './command.ts';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Runs work under a signal that Ctrl-C aborts; a second Ctrl-C ends the process at once. */
export async function underInterrupt<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort(
      new AttenuateError(
        'INTERRUPTED',
        '[attenuate] interrupted: expected to run to the end, got a signal to stop. Run again.',
      ),
    );
  };
  for (const name of SIGNALS) process.on(name, stop);
  try {
    return await work(controller.signal);
  } finally {
    for (const name of SIGNALS) process.off(name, stop);
  }
}
