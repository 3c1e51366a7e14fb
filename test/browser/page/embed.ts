import { load } from '../../../src/runtime/browser.ts';

export interface Job {
  readonly model: string;
  readonly threads: number;
  readonly inWorker: boolean;
  readonly texts: readonly string[];
}

export interface Done {
  readonly isolated: boolean;
  readonly threads: number;
  readonly fallbacks: readonly string[];
  readonly embeddings: readonly (readonly number[])[];
  readonly memoryBytes: number;
  /** What a call says once the model is gone. */
  readonly afterDispose: string;
}

/** What an application does, in a page or in a worker of its own. */
export async function embed({ model: url, threads, texts }: Job): Promise<Done> {
  const model = await load(url, { threads });
  const rows = await model.embed(texts);
  const { info } = model;
  const memoryBytes = await model.memoryBytes();
  model.dispose();
  const afterDispose = await model.embed(texts).then(
    () => 'answered',
    (error) => error.code,
  );
  return {
    isolated: globalThis.crossOriginIsolated,
    threads: info.threads,
    fallbacks: info.fallbacks,
    embeddings: rows.map((row) => [...row]),
    memoryBytes,
    afterDispose,
  };
}
