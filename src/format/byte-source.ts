import { AttenuateError } from '../tensor/error.ts';

/** Bytes of a file wherever it is. */
export interface ByteSource {
  /** Bytes in all; null where a server does not say. */
  readonly size: number | null;
  /** Whether `read` may be asked for any range; otherwise only for ranges near the start, before `stream`. */
  readonly randomAccess: boolean;
  /** Exactly `length` bytes that the caller may keep. @throws `SOURCE_TRUNCATED`, `SOURCE_SEQUENTIAL` */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Every byte from the first, in chunks that are valid until the next one is asked for. */
  stream(signal?: AbortSignal): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** Longest chunk that a source gives where it can choose. */
export const CHUNK_BYTES = 1 << 20;

export function truncated(offset: number, length: number, size: number): AttenuateError {
  return new AttenuateError(
    'SOURCE_TRUNCATED',
    `[read] file that ends too early: expected ${length} bytes at ${offset}, got a file of ${size}. Download or copy it again.`,
    { offset, length, size },
  );
}

/** A source over bytes in memory; `read` copies. */
export function bytesSource(data: Uint8Array | ArrayBuffer): ByteSource {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  return {
    size: bytes.length,
    randomAccess: true,
    async read(offset, length) {
      if (offset + length > bytes.length) throw truncated(offset, length, bytes.length);
      return bytes.slice(offset, offset + length);
    },
    async *stream(signal) {
      for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
        signal?.throwIfAborted();
        yield bytes.subarray(at, Math.min(bytes.length, at + CHUNK_BYTES));
      }
    },
    async close() {},
  };
}

/**
 * A source over one GET of `url`, sent at the first read. It is sequential: `read` serves the start of the file out
 * of the same response that `stream` then goes on with, and `stream` can be had once. `size` is null before the
 * answer, and where a content encoding hides it.
 * @throws `SOURCE_FETCH` from `read` and `stream` when the server cannot be reached or answers without a file
 */
export function urlSource(url: string | URL, options: { signal?: AbortSignal } = {}): ByteSource {
  return sequentialSource(() => get(url, options.signal));
}

/** The source behind `urlSource`, over an answer that the caller already has (from a cache, a service worker). */
export function responseSource(response: Response): ByteSource {
  return sequentialSource(async () => response);
}

async function get(url: string | URL, signal?: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { signal: signal ?? null });
  } catch (error) {
    signal?.throwIfAborted();
    throw new AttenuateError(
      'SOURCE_FETCH',
      `[fetch] no answer: expected a file at ${url}, got ${error instanceof Error ? error.message : error}. Check the address and the connection.`,
      { url: String(url) },
      { cause: error },
    );
  }
  if (!response.ok || !response.body)
    throw new AttenuateError(
      'SOURCE_FETCH',
      `[fetch] answer without a file: expected status 200 for ${url}, got ${response.status}. Check the address.`,
      { url: String(url), status: response.status },
    );
  return response;
}

function sizeOf(response: Response): number | null {
  const header = response.headers.get('content-length');
  const length = header === null ? NaN : Number(header);
  // With a content encoding, the length counts the compressed bytes.
  const plain = (response.headers.get('content-encoding') ?? 'identity') === 'identity';
  return plain && Number.isSafeInteger(length) && length >= 0 ? length : null;
}

const sequential = (what: string) =>
  new AttenuateError(
    'SOURCE_SEQUENTIAL',
    `[read] ${what} of a download: expected one pass from start to end, got another. Open the address again.`,
    {},
  );

function sequentialSource(request: () => Promise<Response>): ByteSource {
  let size: number | null = null;
  let opened: Promise<ReadableStreamDefaultReader<Uint8Array>> | null = null;
  let start: Uint8Array[] | null = [];
  let held = 0;
  const reader = () =>
    (opened ??= request().then((response) => {
      size = sizeOf(response);
      return response.body!.getReader();
    }));
  return {
    get size() {
      return size;
    },
    randomAccess: false,
    async read(offset, length) {
      if (!start) throw sequential('bytes already passed');
      const body = await reader();
      while (held < offset + length) {
        const { done, value } = await body.read();
        if (done) throw truncated(offset, length, held);
        start.push(value);
        held += value.length;
      }
      const out = new Uint8Array(length);
      let at = 0;
      for (const chunk of start) {
        const from = Math.max(offset - at, 0);
        const to = Math.min(chunk.length, offset + length - at);
        if (from < to) out.set(chunk.subarray(from, to), at + from - offset);
        at += chunk.length;
      }
      return out;
    },
    async *stream(signal) {
      if (!start) throw sequential('a second pass');
      const first = start;
      start = null;
      const body = await reader();
      const abort = () => void body.cancel(signal?.reason).catch(() => {});
      signal?.addEventListener('abort', abort, { once: true });
      try {
        signal?.throwIfAborted();
        for (let chunk = first.shift(); chunk; chunk = first.shift()) yield chunk;
        for (;;) {
          signal?.throwIfAborted();
          const { done, value } = await body.read();
          signal?.throwIfAborted();
          if (done) return;
          yield value;
        }
      } finally {
        signal?.removeEventListener('abort', abort);
        await body.cancel().catch(() => {});
      }
    },
    async close() {
      start = null;
      await opened?.then((body) => body.cancel()).catch(() => {});
    },
  };
}
