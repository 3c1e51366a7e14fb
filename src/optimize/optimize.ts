import { createHash } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { applyRecipe } from '../compress/index.ts';
import { machineProfile } from '../device/profile.ts';
import type { Model } from '../model/config.ts';
import { elements } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { budgetMisses, DEFAULT_BUDGET, refusalText } from './budget.ts';
import { type DataOptions, type Dataset, readData } from './data.ts';
import { modelEnergy } from './energy.ts';
import { type Measure, measureArtifact } from './evaluate.ts';
import { INSTRUMENTS, type MeasureJob, type Measurement } from './measurement.ts';
import { quantile } from './metrics.ts';
import type { Rows } from './probe.ts';
import { seeded, shuffled } from './random.ts';
import type { Budget, CandidateRow, CardData, CardModel, CardRow, Drift, FailedRow } from './result.ts';
import { makeScorer, type Scorer, type Scores } from './score.ts';
import { baselineName, type Candidate, candidates, choose, goalOf, paretoFront } from './search.ts';
import { WorkFolder } from './work-folder.ts';

const TIMED = 200;
const FEWEST_TIMED = 100;
const WARMUP = 20;

export interface OptimizeProgress {
  /** Which part of the whole: `index` of `total`; `total` grows once the data's lengths are known. */
  readonly index: number;
  readonly total: number;
  readonly name: string;
  readonly stage: 'build' | 'load' | 'time' | 'run' | 'score' | 'resumed' | 'drift' | 'write';
  /** Part of the stage that is done, 0 to 1. */
  readonly fraction: number;
}

export interface OptimizeOptions {
  /** An open model, or the path of a folder or artifact. */
  model: string | Model;
  /** How the model is called in the card. Default: its path's last part. */
  name?: string;
  /** Data that was read, or a source for `readData`. */
  data: string | Dataset;
  dataOptions?: DataOptions;
  /** Default: at most one point lost. */
  budget?: Budget;
  /** Folder for the artifact and the work. */
  out: string;
  seed?: number;
  resume?: boolean;
  signal?: AbortSignal;
  onProgress?: (progress: OptimizeProgress) => void;
}

/** What `optimize` reaches outside itself for; tests bring their own. */
export interface OptimizeServices {
  openModel(path: string): Promise<Model>;
  writeArtifact(model: Model, path: string, options: { signal?: AbortSignal }): Promise<unknown>;
  measure: Measure;
}

/** One finished candidate as it is kept in the work folder. */
type Finished =
  | { failed: FailedRow['failed'] }
  | { failed?: undefined; sizeBytes: number; measurement: Measurement; scores: Scores };

/** Format of the kept results; part of every key. */
const WORK_VERSION = 1;

/**
 * Builds candidates of a model, measures each on this machine and writes the best that meets the budget to
 * `<out>/model.safetensors`. When none does, nothing is written and `refusal` says what came nearest.
 * @throws the signal's reason after an abort, with finished candidates kept for `resume`
 */
export async function optimize(
  options: OptimizeOptions,
  services?: Partial<OptimizeServices>,
): Promise<CardData> {
  const given = options.model;
  const { openModel, ...rest } = { ...(await defaultServices()), ...services };
  const model = typeof given === 'string' ? await openModel(given) : given;
  try {
    return await new Run(model, options, rest).run();
  } finally {
    if (typeof given === 'string') await model.weights.close?.();
  }
}

async function defaultServices(): Promise<OptimizeServices> {
  const { openModel, writeArtifact } = await import('../format/index.ts');
  return { openModel, writeArtifact, measure: measureArtifact };
}

class Run {
  private readonly model: Model;
  private readonly options: OptimizeOptions;
  private readonly services: Omit<OptimizeServices, 'openModel'>;
  private readonly seed: number;
  private readonly machine = machineProfile();
  private work!: WorkFolder;
  private data!: Dataset;
  private scorer!: Scorer;
  private modelHash = '';
  private baseline: { key: string; rows: Rows } | null = null;
  private index = 0;
  private total = 1;
  /** Whether anything was measured now, not only taken from the work folder. */
  private fresh = false;

  constructor(model: Model, options: OptimizeOptions, services: Omit<OptimizeServices, 'openModel'>) {
    this.model = model;
    this.options = options;
    this.services = services;
    this.seed = options.seed ?? 1;
  }

  async run(): Promise<CardData> {
    const { options, model, seed } = this;
    const date = new Date().toISOString();
    const given = options.budget ?? {};
    const budget = Object.values(given).some((limit) => limit !== undefined) ? given : DEFAULT_BUDGET;
    const { data } = options;
    this.data = typeof data === 'string' ? await readData(data, { seed, ...options.dataOptions }) : data;
    this.scorer = makeScorer(this.data, model.config, seed);
    options.signal?.throwIfAborted();
    await mkdir(options.out, { recursive: true });
    this.work = await WorkFolder.open(options.out, options.resume ?? false);
    this.modelHash = await hashModel(model, options.signal);

    const float: Candidate = { name: baselineName(model), recipe: [] };
    const first = await this.evaluate(float);
    if (first.failed)
      throw new AttenuateError(first.failed.code, first.failed.message, { candidate: float.name });
    const lengths = first.measurement.lengths.slice(0, this.scorer.testTexts);
    const others = candidates(model, lengths);
    // The drift check and the writing of the artifact are parts too.
    this.total = others.length + 3;
    const finished: [Candidate, Finished][] = [[float, first]];
    for (const candidate of others) {
      this.index++;
      finished.push([candidate, await this.evaluate(candidate)]);
    }
    this.index++;
    const drift = this.fresh ? await this.drift(float, first.measurement) : null;

    const rows = await this.rows(finished, budget, quantile(lengths, 0.5));
    const measured = rows.filter((row): row is CandidateRow => row.failed === undefined);
    const goal = goalOf(budget);
    const best = choose(measured, goal);
    const artifact = best && (await this.write(best));
    return {
      version: 1,
      model: this.cardModel(),
      data: {
        source: this.data.source,
        kind: this.data.kind,
        method: this.scorer.method,
        train: this.data.kind === 'labels' ? this.data.train.length : 0,
        test: this.data.kind === 'labels' ? this.data.test.length : this.data.pairs.length,
        ...(this.data.kind === 'labels' && {
          classes: new Set([...this.data.train, ...this.data.test].map(({ label }) => label)).size,
        }),
        tokens: {
          median: quantile(lengths, 0.5),
          p95: quantile(lengths, 0.95),
          longest: lengths.reduce((a, b) => Math.max(a, b), 0),
        },
        rejectedRows: this.data.rejected.length,
        hash: this.data.hash,
        ...(this.data.notice && { notice: this.data.notice }),
      },
      budget,
      goal,
      machine: this.machine,
      rows: rows.map((row) => (row === best ? { ...row, chosen: true } : row)),
      chosen: best?.name ?? null,
      refusal: best ? null : refusalText(measured),
      drift,
      instruments: {
        ...INSTRUMENTS,
        metric: `${this.scorer.method}; 95 % percentile bootstrap, 1000 resamples, paired with the float model for the drop`,
        energy: 'estimated from the traced Program’s work for one text of median length',
      },
      artifact,
      seed,
      date,
    };
  }

  private progress(name: string, stage: OptimizeProgress['stage'], fraction: number): void {
    this.options.onProgress?.({ index: this.index, total: this.total, name, stage, fraction });
  }

  private keyOf(recipe: unknown): string {
    const { cpu, engine } = this.machine;
    const parts = [WORK_VERSION, this.modelHash, this.data.hash, this.seed, recipe, cpu, engine];
    return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
  }

  private job(artifact: string, vectors: string | null): MeasureJob {
    const { texts, testTexts, output } = this.scorer;
    const order = shuffled(
      Array.from({ length: testTexts }, (_, i) => i),
      seeded(this.seed),
    ).slice(0, TIMED);
    const timed = Array.from(
      { length: Math.max(FEWEST_TIMED, order.length) },
      (_, i) => order[i % order.length],
    );
    return { artifact, texts, timed, warmup: WARMUP, output, vectors };
  }

  /** Builds, measures and scores a candidate, or takes what an earlier run kept. */
  private async evaluate(candidate: Candidate): Promise<Finished> {
    const { signal } = this.options;
    signal?.throwIfAborted();
    const { name, recipe } = candidate;
    const key = this.keyOf(recipe);
    const isBaseline = this.baseline === null;
    const kept = await this.work.readJson<Finished>(key);
    if (kept && !kept.failed) {
      const count = this.scorer.texts.length;
      const rows = isBaseline ? await this.work.readRows(key, count, kept.measurement.width) : null;
      if (rows) this.baseline = { key, rows };
      if (rows || !isBaseline) {
        this.progress(name, 'resumed', 1);
        return kept;
      }
    }
    this.fresh = true;
    let finished: Finished;
    try {
      finished = await this.measure(candidate, key, isBaseline);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      const { code = 'CANDIDATE_FAILED', message } = error as { code?: string; message: string };
      return { failed: { code, message } };
    }
    await this.work.writeJson(key, finished);
    return finished;
  }

  private async measure({ name, recipe }: Candidate, key: string, isBaseline: boolean): Promise<Finished> {
    const { signal } = this.options;
    try {
      const { sizeBytes, artifact } = await this.build(name, recipe, key);
      const measurement = await this.services.measure(this.job(artifact, this.work.at(`${key}.f32`)), {
        signal,
        onProgress: ({ stage, done, total }) => this.progress(name, stage, done / total),
      });
      const rows = await this.work.readRows(key, this.scorer.texts.length, measurement.width);
      if (!rows?.every((row) => row.every(Number.isFinite)))
        throw new AttenuateError(
          'OUTPUT_NOT_FINITE',
          `[optimize] outputs of ${name} that are not finite: expected numbers, got ${rows ? 'NaN or infinity' : 'too few rows'}. Leave this recipe out.`,
          { name },
        );
      if (isBaseline) this.baseline = { key, rows };
      this.progress(name, 'score', 0);
      const own = isBaseline ? this.baseline!.rows : rows;
      const scores = await this.scorer.score(own, this.baseline!.rows, signal);
      this.progress(name, 'score', 1);
      return { sizeBytes, measurement, scores };
    } finally {
      await this.work.remove(`${key}.safetensors`);
      if (!isBaseline) await this.work.remove(`${key}.f32`);
    }
  }

  private async build(name: string, recipe: unknown, key: string) {
    this.progress(name, 'build', 0);
    const artifact = this.work.at(`${key}.safetensors`);
    const built = await applyRecipe(this.model, recipe);
    await this.services.writeArtifact(built, artifact, { signal: this.options.signal });
    this.progress(name, 'build', 1);
    return { artifact, sizeBytes: (await stat(artifact)).size };
  }

  /** Times the float model again: what changed is the machine, not the model. */
  private async drift(float: Candidate, { latencyMs }: Measurement): Promise<Drift> {
    const { signal } = this.options;
    const key = this.baseline!.key;
    try {
      const { artifact } = await this.build(float.name, [], key);
      const again = await this.services.measure(this.job(artifact, null), {
        signal,
        onProgress: ({ done, total }) => this.progress(float.name, 'drift', done / total),
      });
      const [startMedianMs, endMedianMs] = [latencyMs.median, again.latencyMs.median];
      return { startMedianMs, endMedianMs, ratio: endMedianMs / startMedianMs };
    } finally {
      await this.work.remove(`${key}.safetensors`);
    }
  }

  private async rows(
    finished: readonly [Candidate, Finished][],
    budget: Budget,
    medianLength: number,
  ): Promise<CardRow[]> {
    const rows: CardRow[] = [];
    for (const [{ name, recipe }, result] of finished) {
      if (result.failed) {
        rows.push({ name, recipe, meetsBudget: false, chosen: false, failed: result.failed });
        continue;
      }
      const { sizeBytes, measurement, scores } = result;
      const { plannedPeakBytes, measuredPeakBytes, latencyMs } = measurement;
      const misses = budgetMisses(
        { sizeBytes, plannedPeakBytes, measuredPeakBytes, latencyMs, drop: scores.drop },
        budget,
      );
      const built = await applyRecipe(this.model, recipe);
      rows.push({
        name,
        recipe: built.recipe.slice(this.model.recipe.length),
        sizeBytes,
        plannedPeakBytes,
        measuredPeakBytes,
        latencyMs,
        ...scores,
        energyMj: modelEnergy(built, Math.round(medianLength)),
        meetsBudget: misses.length === 0,
        misses,
        pareto: false,
        chosen: false,
      });
    }
    const measured = rows.filter((row): row is CandidateRow => row.failed === undefined);
    const front = paretoFront(measured);
    return rows.map((row) => (row.failed ? row : { ...row, pareto: front[measured.indexOf(row)] }));
  }

  private async write(best: CandidateRow): Promise<CardData['artifact']> {
    this.index++;
    this.progress(best.name, 'write', 0);
    const file = join(this.options.out, 'model.safetensors');
    const built = await applyRecipe(this.model, best.recipe);
    await this.services.writeArtifact(built, file, { signal: this.options.signal });
    this.progress(best.name, 'write', 1);
    return { file: basename(file), sizeBytes: (await stat(file)).size };
  }

  private cardModel(): CardModel {
    const { model, options } = this;
    const source = typeof options.model === 'string' ? options.model : (options.name ?? 'a model in memory');
    let parameters = 0;
    for (const { shape } of model.weights.specs.values()) parameters += elements(shape);
    return {
      name: options.name ?? (typeof options.model === 'string' ? basename(resolve(source)) : source),
      source,
      architecture: model.config.architecture,
      layers: model.config.layers.length,
      parameters,
      hash: this.modelHash,
      provenance: model.provenance,
    };
  }
}

/** SHA-256 of configuration, tokenizer, recipe and weights. */
async function hashModel(model: Model, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([model.config, model.tokenizer, model.recipe]));
  for (const [name, { codec, shape }] of [...model.weights.specs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    signal?.throwIfAborted();
    hash.update(JSON.stringify([name, codec, shape])).update((await model.weights.read(name)).bytes);
  }
  return hash.digest('hex');
}
