import { type PoolMember, serve } from '../backend/wasm/pool.ts';
import type { AttenuateError } from '../tensor/error.ts';
import { loadLocal } from './browser-local.ts';
import type { LoadedState, Reply, Request } from './remote.ts';
import type { StreamOptions, TextInput, TextModel, TextStream } from './types.ts';

/** The file that a page's model lives in, and that its helper threads run: the first message says which. */
const scope = globalThis as unknown as {
  postMessage(message: unknown): void;
  onmessage: ((event: MessageEvent) => void) | null;
  location: { href: string };
};

let model: TextModel | null = null;
const streams = new Map<number, TextStream>();
const aborts = new Map<number, AbortController>();
const send = (reply: Reply): void => scope.postMessage(reply);

async function answer(request: Exclude<Request, { kind: 'abort' }>, signal: AbortSignal): Promise<unknown> {
  if (request.kind === 'load') {
    const { id, source, options } = request;
    model = await loadLocal(
      source,
      { ...options, signal, onProgress: (p) => send({ id, kind: 'progress', ...p }) },
      scope.location.href,
    );
    const { config, info, recipe, provenance } = model;
    return { config, info, recipe, provenance } satisfies LoadedState;
  }
  if (request.kind === 'stream') return answerStream(request, signal);
  const { method, args } = request;
  const withSignal =
    method === 'plan' || method === 'memoryBytes' || method === 'tokenize'
      ? args
      : [...args.slice(0, -1), { ...(args.at(-1) as object), signal }];
  return (model![method] as (...a: unknown[]) => Promise<unknown>)(...withSignal);
}

async function answerStream(
  { id, method, of, args }: Extract<Request, { kind: 'stream' }>,
  signal: AbortSignal,
): Promise<unknown> {
  if (method === 'open') {
    streams.set(id, await model!.stream(args[0] as StreamOptions));
    return id;
  }
  // A disposed stream stays, to say so when it is pushed to.
  const stream = streams.get(of)!;
  return stream[method](args[0] as TextInput, { signal });
}

scope.onmessage = ({ data }: MessageEvent<Request | { kind: 'serve'; member: PoolMember }>) => {
  if (data.kind === 'serve') return serve(data.member, () => scope.postMessage('ready'));
  if (data.kind === 'abort') return aborts.get(data.id)?.abort(new DOMException(data.reason, 'AbortError'));
  const controller = new AbortController();
  aborts.set(data.id, controller);
  answer(data, controller.signal)
    .then((value) => send({ id: data.id, kind: 'done', value }))
    .catch((error: unknown) => {
      // By its name: what is downloaded later has a class of its own.
      const known = (error as Error).name === 'AttenuateError' ? (error as AttenuateError) : null;
      const { name, message } = error as Error;
      send({
        id: data.id,
        kind: 'failed',
        name,
        message,
        code: known?.code ?? 'INTERNAL',
        fields: { ...known?.fields },
      });
    })
    .finally(() => aborts.delete(data.id));
};
