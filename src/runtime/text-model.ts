import type { WasmEngine } from '../backend/wasm/engine.ts';
import type { Tokenizer } from '../format/tokenizer.ts';
import type { EncoderConfig, Model } from '../model/config.ts';
import { AttenuateError } from '../tensor/error.ts';
import { groupByLength, invalidIds } from './batches.ts';
import type {
  BackendInfo,
  Classification,
  MaskCandidate,
  MemoryPlan,
  RunOptions,
  StreamOptions,
  TextInput,
  TextModel,
  TextStream,
} from './types.ts';

interface Parts {
  readonly model: Model;
  readonly engine: WasmEngine;
  readonly tokenizer: Tokenizer | null;
  readonly info: BackendInfo;
}

interface Sequence {
  readonly ids: readonly number[];
  readonly types?: readonly number[];
  /** Rows that a masked-token head looks at. */
  readonly rows?: readonly number[];
}

/** A loaded encoder. Calls queue: one runs at a time, in the order they came. */
export class EncoderModel implements TextModel {
  readonly config: EncoderConfig;
  readonly info: BackendInfo;
  readonly recipe: readonly unknown[];
  readonly provenance: Readonly<Record<string, unknown>>;
  private readonly engine: WasmEngine;
  private readonly tokenizer: Tokenizer | null;
  private queue: Promise<unknown> = Promise.resolve();
  private disposed = false;

  constructor({ model, engine, tokenizer, info }: Parts) {
    this.config = model.config;
    this.recipe = model.recipe;
    this.provenance = model.provenance;
    this.info = info;
    this.engine = engine;
    this.tokenizer = tokenizer;
  }

  async tokenize(text: TextInput): Promise<number[]> {
    return this.encode(text).ids;
  }

  async embed(texts: readonly TextInput[], options?: RunOptions): Promise<Float32Array[]> {
    this.expectHead('embedding', 'embed');
    return this.sequences(
      texts.map((t) => this.encode(t)),
      options,
    );
  }

  async classify(texts: readonly TextInput[], options?: RunOptions): Promise<Classification[]> {
    this.expectHead('classification', 'classify');
    const rows = await this.sequences(
      texts.map((t) => this.encode(t)),
      options,
    );
    return rows.map((row) => this.classification(row));
  }

  private classification(row: Float32Array): Classification {
    const { labels } = this.expectHead('classification', 'classify');
    const scores = labels.map((label, i) => ({ label, score: row[i] }));
    const best = scores.reduce((a, b) => (b.score > a.score ? b : a));
    return { ...best, scores };
  }

  async fillMask(text: string, options: RunOptions & { top?: number } = {}): Promise<MaskCandidate[][]> {
    this.expectHead('maskedToken', 'fillMask');
    const sequence = this.encode(text);
    const maskId = this.tokenizer?.maskId;
    const rows = sequence.ids.flatMap((id, i) => (id === maskId ? [i] : []));
    if (!rows.length)
      throw new AttenuateError(
        'NO_MASK',
        '[fillMask] no mask in the text: expected at least one mask token, got none. Write the mask token where a word is missing.',
      );
    const [all] = await this.sequences([{ ...sequence, rows }], options);
    const size = this.config.vocabularySize;
    return rows.map((_, p) => {
      const scores = all.subarray(p * size, (p + 1) * size);
      const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]);
      return order
        .slice(0, options.top ?? 5)
        .map((id) => ({ id, token: this.tokenizer!.token(id), score: scores[id] }));
    });
  }

  run(ids: readonly (readonly number[])[], options?: RunOptions): Promise<Float32Array[]> {
    return this.sequences(
      ids.map((i) => ({ ids: i, rows: this.config.head.kind === 'maskedToken' ? [0] : undefined })),
      options,
    );
  }

  async stream(options: StreamOptions = {}): Promise<TextStream> {
    const { openStream } = await import('./stream/open.ts');
    return openStream(
      {
        engine: this.engine,
        config: this.config,
        encode: (text) => this.encode(text),
        check: (ids) => this.check(ids),
        classification: (row) => this.classification(row),
        enqueue: (job) => this.enqueue(job),
      },
      options,
    );
  }

  async plan(lengths: number | readonly number[], batch = 1): Promise<MemoryPlan[]> {
    return [lengths].flat().map((length) => {
      const N = Math.max(1, Math.min(length, this.config.maxLength));
      const plan = this.engine.plan({ B: batch, N, P: 1 });
      const { weightBytes } = this.engine;
      const scratchBytes = plan.end - plan.scratch;
      return {
        batch,
        length: N,
        weightBytes,
        arenaBytes: plan.scratch - weightBytes,
        scratchBytes,
        peakBytes: plan.end,
      };
    });
  }

  async memoryBytes(): Promise<number> {
    return this.engine.memoryBytes();
  }

  dispose(): void {
    this.disposed = true;
    this.engine.dispose();
  }

  private encode(text: TextInput): { ids: number[]; types: number[] } {
    if (!this.tokenizer)
      throw new AttenuateError(
        'NO_TOKENIZER',
        '[tokenize] model without a tokenizer: expected one in the file, got none. Pass token ids to run() instead.',
      );
    return typeof text === 'string' ? this.tokenizer.encode(text) : this.tokenizer.encode(text[0], text[1]);
  }

  private expectHead<K extends EncoderConfig['head']['kind']>(
    kind: K,
    method: string,
  ): Extract<EncoderConfig['head'], { kind: K }> {
    const { head } = this.config;
    if (head.kind !== kind)
      throw new AttenuateError(
        'WRONG_HEAD',
        `[${method}] model with another head: expected ${kind}, got ${head.kind}. Call the method of its head.`,
        { expected: kind, got: head.kind },
      );
    return head as Extract<EncoderConfig['head'], { kind: K }>;
  }

  /** Output row of each sequence, in the order given. */
  private async sequences(
    sequences: readonly Sequence[],
    { signal }: RunOptions = {},
  ): Promise<Float32Array[]> {
    for (const { ids } of sequences) this.check(ids);
    return this.enqueue(() => this.batches(sequences, signal));
  }

  private check(ids: readonly number[]): void {
    const error = invalidIds(ids, this.config.vocabularySize, this.config.maxLength);
    if (error) throw error;
  }

  private enqueue<T>(work: () => Promise<T>): Promise<T> {
    const job = this.queue.then(() => {
      if (!this.disposed) return work();
      throw new AttenuateError(
        'DISPOSED',
        '[run] model is disposed: expected a live model, got one whose memory was returned. Load it again.',
      );
    });
    this.queue = job.catch(() => {});
    return job;
  }

  private async batches(sequences: readonly Sequence[], signal?: AbortSignal): Promise<Float32Array[]> {
    const out = new Array<Float32Array>(sequences.length);
    for (const { length: N, members } of groupByLength(sequences.map((s) => s.ids.length))) {
      const B = members.length;
      const P = sequences[members[0]].rows?.length ?? 1;
      const inputs: Record<string, Int32Array> = {
        ids: new Int32Array(B * N),
        lengths: new Int32Array(B).fill(N),
        types: new Int32Array(B * N),
        rows: new Int32Array(B * P),
      };
      members.forEach((place, b) => {
        inputs.ids.set(sequences[place].ids, b * N);
        inputs.types.set((sequences[place].types ?? []).slice(0, N), b * N);
        inputs.rows.set(sequences[place].rows ?? [], b * P);
      });
      const [y] = await this.engine.run({ B, N, P }, inputs, signal);
      const width = y.length / B;
      members.forEach((place, b) => {
        out[place] = y.slice(b * width, (b + 1) * width);
      });
    }
    return out;
  }
}
