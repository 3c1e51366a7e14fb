import type { WasmEngine } from '../../backend/wasm/engine.ts';
import type { EncoderConfig } from '../../model/config.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { Classification, StreamOptions, StreamResult, TextInput, TextStream } from '../types.ts';
import { StreamState } from './stream.ts';

/** What a stream needs of the model that it belongs to. */
export interface StreamHost {
  readonly engine: WasmEngine;
  readonly config: EncoderConfig;
  encode(text: TextInput): { ids: readonly number[]; types?: readonly number[] };
  /** @throws for ids that the model cannot take */
  check(ids: readonly number[]): void;
  classification(scores: Float32Array): Classification;
  /** Runs a job when those before it are done. */
  enqueue<T>(job: () => Promise<T>): Promise<T>;
}

/** @throws `WRONG_HEAD` for a masked-token model; `STREAM_OPTION`; `CUT_UNSUPPORTED` */
export function openStream(host: StreamHost, options: StreamOptions): TextStream {
  const { kind } = host.config.head;
  if (kind === 'maskedToken')
    throw new AttenuateError(
      'WRONG_HEAD',
      `[stream] model with another head: expected embedding or classification, got ${kind}. Call the method of its head.`,
      { got: kind },
    );
  let state: StreamState | null = new StreamState(host.engine, options);
  const live = (): StreamState => {
    if (state) return state;
    throw new AttenuateError(
      'DISPOSED',
      '[stream] stream is disposed: expected a live stream, got one whose memory was returned. Open another.',
    );
  };
  return {
    async push(input, runOptions = {}): Promise<StreamResult> {
      live();
      const { ids, types = [] } = isIds(input) ? { ids: input } : host.encode(input);
      host.check(ids);
      const { output, recomputed } = await host.enqueue(() => live().push(ids, types, runOptions));
      return kind === 'embedding'
        ? { embedding: output, classification: null, recomputed }
        : { embedding: null, classification: host.classification(output), recomputed };
    },
    async reset() {
      live();
      await host.enqueue(async () => state?.reset());
    },
    dispose() {
      state = null;
    },
  };
}

const isIds = (input: TextInput | readonly number[]): input is readonly number[] =>
  typeof input !== 'string' && typeof input[0] !== 'string';
