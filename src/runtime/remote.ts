import { AttenuateError } from '../tensor/error.ts';
import type { LoadOptions, RunOptions, StreamResult, TextInput, TextModel, TextStream } from './types.ts';

/** What travels between a page and the worker that holds its model. */
export type Request =
  | {
      readonly id: number;
      readonly kind: 'load';
      readonly source: string | Uint8Array;
      readonly options: LoadOptions;
    }
  | {
      readonly id: number;
      readonly kind: 'call';
      readonly method: RemoteMethod;
      readonly args: readonly unknown[];
    }
  /** `of` is the stream's number, which its opening gave. */
  | {
      readonly id: number;
      readonly kind: 'stream';
      readonly method: StreamMethod;
      readonly of: number;
      readonly args: readonly unknown[];
    }
  | { readonly id: number; readonly kind: 'abort'; readonly reason: string };
export type StreamMethod = 'open' | keyof TextStream;
export type Reply =
  | {
      readonly id: number;
      readonly kind: 'progress';
      readonly loadedBytes: number;
      readonly totalBytes: number;
    }
  | { readonly id: number; readonly kind: 'done'; readonly value: unknown }
  | {
      readonly id: number;
      readonly kind: 'failed';
      readonly code: string;
      readonly message: string;
      readonly fields: Record<string, unknown>;
      readonly name: string;
    };
export type RemoteMethod = 'tokenize' | 'embed' | 'classify' | 'fillMask' | 'run' | 'plan' | 'memoryBytes';
export type LoadedState = Pick<TextModel, 'config' | 'info' | 'recipe' | 'provenance'>;

interface Waiting {
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
  readonly onProgress?: LoadOptions['onProgress'];
}

/** Loads a model in a worker and gives a model whose calls go there: the page's own thread never computes. */
export async function loadRemote(
  worker: Worker,
  source: string | Uint8Array,
  options: LoadOptions,
): Promise<TextModel> {
  const { signal, onProgress, worker: _worker, ...plain } = options;
  const waiting = new Map<number, Waiting>();
  let last = 0;
  let gone: AttenuateError | null = null;
  const ask = <T>(
    request:
      | { kind: 'load'; source: string | Uint8Array; options: LoadOptions }
      | { kind: 'call'; method: RemoteMethod; args: readonly unknown[] }
      | { kind: 'stream'; method: StreamMethod; of: number; args: readonly unknown[] },
    abort?: AbortSignal,
  ): Promise<T> => {
    abort?.throwIfAborted();
    if (gone) return Promise.reject(gone);
    const id = ++last;
    const stop = () =>
      worker.postMessage({ id, kind: 'abort', reason: String(abort?.reason) } satisfies Request);
    abort?.addEventListener('abort', stop, { once: true });
    const answer = new Promise<T>((resolve, reject) => waiting.set(id, { resolve, reject, onProgress }));
    worker.postMessage({ id, ...request } as Request);
    return answer.finally(() => {
      abort?.removeEventListener('abort', stop);
      waiting.delete(id);
    });
  };
  const failAll = (error: AttenuateError) => {
    for (const { reject } of waiting.values()) reject(error);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    failAll(
      new AttenuateError(
        'WORKER_FAILED',
        `[load] worker failed: expected it to start, got ${event.message || 'no reason'}. Serve the worker's file from this origin and pass its address as options.worker.`,
      ),
    );
  };
  worker.onmessage = ({ data }: MessageEvent<Reply>) => {
    const call = waiting.get(data.id);
    if (!call) return;
    if (data.kind === 'progress') call.onProgress?.(data);
    else if (data.kind === 'done') call.resolve(data.value as never);
    else
      call.reject(
        data.name === 'AbortError'
          ? new DOMException(data.message, 'AbortError')
          : new AttenuateError(data.code, data.message, data.fields),
      );
  };
  let state: LoadedState;
  try {
    state = await ask<LoadedState>({ kind: 'load', source, options: plain }, signal);
  } catch (error) {
    worker.terminate();
    throw error;
  }
  const call = <T>(method: RemoteMethod, args: readonly unknown[], options?: RunOptions): Promise<T> => {
    const { signal: abort, ...rest } = options ?? {};
    return ask<T>({ kind: 'call', method, args: [...args, rest] }, abort);
  };
  return {
    ...state,
    tokenize: (text: TextInput) => call('tokenize', [text]),
    embed: (texts, o) => call('embed', [texts], o),
    classify: (texts, o) => call('classify', [texts], o),
    fillMask: (text, o) => call('fillMask', [text], o),
    run: (ids, o) => call('run', [ids], o),
    stream: async (options = {}) => {
      const ofStream = <T>(method: StreamMethod, args: readonly unknown[] = [], abort?: AbortSignal) =>
        ask<T>({ kind: 'stream', method, of, args }, abort);
      let of = 0;
      of = await ofStream<number>('open', [options]);
      return {
        push: async (input, o = {}) => ofStream<StreamResult>('push', [input], o.signal),
        reset: () => ofStream<void>('reset'),
        dispose: () => void ofStream('dispose').catch(() => {}),
      };
    },
    plan: (lengths, batch) => ask({ kind: 'call', method: 'plan', args: [lengths, batch] }),
    memoryBytes: () => ask({ kind: 'call', method: 'memoryBytes', args: [] }),
    dispose: () => {
      worker.terminate();
      gone = new AttenuateError(
        'DISPOSED',
        '[run] model is disposed: expected a live model, got one whose memory was returned. Load it again.',
      );
      failAll(gone);
    },
  };
}
