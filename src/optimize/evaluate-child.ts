import { open, rename } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { load } from '../runtime/index.ts';
import type { TextModel } from '../runtime/types.ts';
import type { ChildMessage, MeasureJob, Measurement } from './measurement.ts';
import { quantile } from './metrics.ts';

const BATCH = 32;

const send = (message: ChildMessage) =>
  new Promise<void>((resolve) => process.send!(message, undefined, undefined, () => resolve()));

const collect = () => (globalThis as { gc?: () => void }).gc?.();

/** Samples the process's memory; WebAssembly memory that is shared is not in `external`, so the model is asked. */
class MemoryWatch {
  peak = 0;
  private model: TextModel | null = null;
  private wasmBytes = 0;
  private paused = false;
  private readonly before: number;
  private readonly timer: NodeJS.Timeout;

  constructor() {
    collect();
    this.before = this.now();
    this.timer = setInterval(() => this.sample(), 1);
  }

  async watch(model: TextModel): Promise<void> {
    this.model = model;
    await this.refresh();
  }

  /** Asks the model what it holds, then samples. */
  async refresh(): Promise<void> {
    this.wasmBytes = (await this.model?.memoryBytes()) ?? 0;
    this.sample();
  }

  sample(): void {
    if (this.paused) return;
    this.peak = Math.max(this.peak, this.now() - this.before);
  }

  /** Runs work that is not to be counted. */
  async without<T>(work: () => Promise<T>): Promise<T> {
    this.paused = true;
    const result = await work();
    collect();
    this.paused = false;
    return result;
  }

  async stop(): Promise<number> {
    clearInterval(this.timer);
    await this.refresh();
    return Math.round(this.peak);
  }

  private now(): number {
    const { heapUsed, external, arrayBuffers } = process.memoryUsage();
    return heapUsed + Math.max(external, arrayBuffers + this.wasmBytes);
  }
}

async function rowsOf(
  model: TextModel,
  texts: readonly string[],
  output: MeasureJob['output'],
): Promise<Float32Array[]> {
  if (output === 'embedding') return model.embed(texts);
  const results = await model.classify(texts);
  return results.map(({ scores }) => Float32Array.from(scores, ({ score }) => score));
}

async function measure(job: MeasureJob): Promise<Measurement> {
  const memory = new MemoryWatch();
  const model = await load(job.artifact, { onProgress: () => memory.sample() });
  await memory.watch(model);
  await send({ kind: 'progress', progress: { stage: 'load', done: 1, total: 1 } });
  // The garbage of counting every text's tokens is not the model's.
  const lengths = await memory.without(async () => {
    const counts: number[] = [];
    for (const text of job.texts.slice(0, job.testTexts)) counts.push((await model.tokenize(text)).length);
    return counts;
  });
  const longest = lengths.reduce((best, length, i) => (length > lengths[best] ? i : best), 0);
  const first = await rowsOf(model, [job.texts[longest]], job.output);
  await memory.refresh();
  for (let i = 0; i < job.warmup; i++)
    await rowsOf(model, [job.texts[job.timed[i % job.timed.length]]], job.output);
  const times: number[] = [];
  for (const [i, index] of job.timed.entries()) {
    const text = [job.texts[index]];
    const start = performance.now();
    await rowsOf(model, text, job.output);
    times.push(performance.now() - start);
    if (i % 20 === 19) {
      await memory.refresh();
      await send({ kind: 'progress', progress: { stage: 'time', done: i + 1, total: job.timed.length } });
    }
  }
  const measuredPeakBytes = await memory.stop();
  const plannedPeakBytes = (await model.plan(lengths[longest], 1))[0].peakBytes;
  const measurement: Measurement = {
    plannedPeakBytes,
    measuredPeakBytes,
    latencyMs: { median: quantile(times, 0.5), p95: quantile(times, 0.95), samples: times.length },
    lengths,
    width: first[0].length,
    info: model.info,
  };
  model.dispose();
  if (job.vectors) await writeRows(job, job.vectors);
  return measurement;
}

/** Runs every text, on all cores: nothing is timed any more, and threads do not change what comes out. */
async function writeRows(job: MeasureJob, path: string): Promise<void> {
  const model = await load(job.artifact, { threads: availableParallelism(), verify: false });
  const temporary = `${path}.${process.pid}.tmp`;
  const file = await open(temporary, 'w');
  try {
    for (let at = 0; at < job.texts.length; at += BATCH) {
      for (const row of await rowsOf(model, job.texts.slice(at, at + BATCH), job.output))
        await file.write(new Uint8Array(row.buffer, row.byteOffset, row.byteLength));
      const done = Math.min(at + BATCH, job.texts.length);
      await send({ kind: 'progress', progress: { stage: 'run', done, total: job.texts.length } });
    }
    await file.sync();
  } finally {
    await file.close();
    model.dispose();
  }
  await rename(temporary, path);
}

// The terminal sends Ctrl-C to this process too; the parent decides, and ends this one.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit(1));
process.once('message', (job: MeasureJob) => {
  measure(job)
    .then((measurement) => send({ kind: 'done', measurement }))
    .catch((error: { code?: unknown; message?: string }) =>
      send({
        kind: 'error',
        code: typeof error?.code === 'string' ? error.code : 'CANDIDATE_FAILED',
        message: error?.message ?? String(error),
      }),
    )
    .finally(() => process.exit(0));
});
await send({ kind: 'ready' });
