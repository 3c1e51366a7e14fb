import { createHash } from 'node:crypto';
import { rename, stat } from 'node:fs/promises';
import { applyRecipe } from '../compress/index.ts';
import type { Figure } from '../device/figure.ts';
import type { MachineProfile } from '../device/profile.ts';
import type { Model } from '../model/config.ts';
import { AttenuateError } from '../tensor/error.ts';
import { modelEnergy } from './energy.ts';
import type { Measure } from './evaluate.ts';
import type { MeasureJob, Measurement } from './measurement.ts';
import { quantile } from './metrics.ts';
import type { Rows } from './probe.ts';
import { seeded, shuffled } from './random.ts';
import type { Drift, FailedRow } from './result.ts';
import type { Scorer, Scores } from './score.ts';
import type { Candidate } from './search.ts';
import { textContext } from './text-context.ts';
import type { WorkFolder } from './work-folder.ts';

const TIMED = 200;
const FEWEST_TIMED = 100;
const WARMUP = 20;

export type Stage = 'build' | 'calibrate' | 'load' | 'time' | 'run' | 'score' | 'resumed' | 'drift' | 'write';

export type WriteArtifact = (
  model: Model,
  path: string,
  options: { signal?: AbortSignal },
) => Promise<unknown>;

/** One finished candidate as it is kept in the work folder. */
export type Finished =
  | { failed: FailedRow['failed'] }
  | {
      failed?: undefined;
      /** As it was applied, defaults filled in. */
      recipe: readonly unknown[];
      /** Texts that its steps looked at; 0 where they asked for none. */
      calibration: number;
      sizeBytes: number;
      measurement: Measurement;
      scores: Scores;
      energyMj: Figure;
    };

/** Format of the kept results; part of every key. */
const WORK_VERSION = 2;

export interface EvaluatorContext {
  readonly model: Model;
  readonly modelHash: string;
  readonly dataHash: string;
  readonly scorer: Scorer;
  /** What steps are calibrated on; none of it is measured on. */
  readonly calibrationTexts: readonly string[];
  readonly work: WorkFolder;
  readonly machine: MachineProfile;
  readonly seed: number;
  readonly writeArtifact: WriteArtifact;
  readonly measure: Measure;
  readonly signal?: AbortSignal;
  progress(name: string, stage: Stage, fraction: number): void;
}

/** Builds, measures and scores candidates; the first one is what the others are compared with. */
export class Evaluator {
  /** Whether anything was measured now, not only taken from the work folder. */
  fresh = false;
  private readonly context: EvaluatorContext;
  private readonly calibrationHash: string;
  private calibrated = 0;
  /** Keys of the candidates whose artifacts stand in the work folder. */
  private readonly standing = new Set<string>();
  private baseline: { key: string; rows: Rows } | null = null;

  constructor(context: EvaluatorContext) {
    this.context = context;
    this.calibrationHash = sha256(context.calibrationTexts);
  }

  /** Builds, measures and scores a candidate, or takes what an earlier run kept. */
  async evaluate(candidate: Candidate): Promise<Finished> {
    const { signal } = this.context;
    signal?.throwIfAborted();
    const { name, recipe } = candidate;
    const key = this.keyOf(recipe);
    const isBaseline = this.baseline === null;
    const kept = await this.context.work.readJson<Finished>(key);
    if (kept && !kept.failed) {
      const count = this.context.scorer.texts.length;
      const rows = isBaseline ? await this.context.work.readRows(key, count, kept.measurement.width) : null;
      if (rows) this.baseline = { key, rows };
      if (rows || !isBaseline) {
        this.context.progress(name, 'resumed', 1);
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
    await this.context.work.writeJson(key, finished);
    return finished;
  }

  /** Removes what candidates left, but for the artifact of the one with this recipe. */
  async keepOnly(recipe: unknown | null): Promise<void> {
    const kept = recipe === null ? null : this.keyOf(recipe);
    for (const key of this.standing) if (key !== kept) await this.discard(key);
  }

  /** Moves a kept artifact to where it is wanted; false where there is none. */
  async take(recipe: unknown, file: string): Promise<boolean> {
    const key = this.keyOf(recipe);
    if (!this.standing.delete(key)) return false;
    await rename(this.context.work.at(`${key}.safetensors`), file);
    return true;
  }

  private async discard(key: string): Promise<void> {
    this.standing.delete(key);
    await this.context.work.remove(`${key}.safetensors`);
  }

  /** Times the float model again: what changed is the machine, not the model. */
  async drift(float: Candidate, { latencyMs }: Measurement): Promise<Drift> {
    const { signal } = this.context;
    const key = this.baseline!.key;
    try {
      const { artifact } = await this.build(float.name, [], key);
      const again = await this.context.measure(this.job(artifact, null), {
        signal,
        onProgress: ({ done, total }) => this.context.progress(float.name, 'drift', done / total),
      });
      const [startMedianMs, endMedianMs] = [latencyMs.median, again.latencyMs.median];
      return { startMedianMs, endMedianMs, ratio: endMedianMs / startMedianMs };
    } finally {
      await this.discard(key);
    }
  }

  private keyOf(recipe: unknown): string {
    const { cpu, engine } = this.context.machine;
    const parts = [
      WORK_VERSION,
      this.context.modelHash,
      this.context.dataHash,
      this.calibrationHash,
      this.context.seed,
      recipe,
      cpu,
      engine,
    ];
    return sha256(parts);
  }

  private job(artifact: string, vectors: string | null): MeasureJob {
    const { texts, testTexts, output } = this.context.scorer;
    const order = shuffled(
      Array.from({ length: testTexts }, (_, i) => i),
      seeded(this.context.seed),
    ).slice(0, TIMED);
    const timed = Array.from(
      { length: Math.max(FEWEST_TIMED, order.length) },
      (_, i) => order[i % order.length],
    );
    return { artifact, texts, testTexts, timed, warmup: WARMUP, output, vectors };
  }

  private async measure({ name, recipe }: Candidate, key: string, isBaseline: boolean): Promise<Finished> {
    const { signal } = this.context;
    try {
      this.calibrated = 0;
      const { built, sizeBytes, artifact } = await this.build(name, recipe, key);
      const measurement = await this.context.measure(this.job(artifact, this.context.work.at(`${key}.f32`)), {
        signal,
        onProgress: ({ stage, done, total }) => this.context.progress(name, stage, done / total),
      });
      const rows = await this.context.work.readRows(key, this.context.scorer.texts.length, measurement.width);
      if (!rows?.every((row) => row.every(Number.isFinite)))
        throw new AttenuateError(
          'OUTPUT_NOT_FINITE',
          `[optimize] outputs of ${name} that are not finite: expected numbers, got ${rows ? 'NaN or infinity' : 'too few rows'}. Leave this recipe out.`,
          { name },
        );
      if (isBaseline) this.baseline = { key, rows };
      this.context.progress(name, 'score', 0);
      const own = isBaseline ? this.baseline!.rows : rows;
      const scores = await this.context.scorer.score(own, this.baseline!.rows, signal);
      this.context.progress(name, 'score', 1);
      const applied = built.recipe.slice(this.context.model.recipe.length);
      const energyMj = await modelEnergy(built, Math.round(quantile(measurement.lengths, 0.5)));
      return { recipe: applied, calibration: this.calibrated, sizeBytes, measurement, scores, energyMj };
    } catch (error) {
      await this.discard(key);
      throw error;
    } finally {
      if (!isBaseline) await this.context.work.remove(`${key}.f32`);
    }
  }

  private async build(name: string, recipe: unknown, key: string) {
    this.context.progress(name, 'build', 0);
    const artifact = this.context.work.at(`${key}.safetensors`);
    const built = await this.apply(name, recipe);
    await this.context.writeArtifact(built, artifact, { signal: this.context.signal });
    this.standing.add(key);
    this.context.progress(name, 'build', 1);
    return { built, artifact, sizeBytes: (await stat(artifact)).size };
  }

  /** The model with a recipe's steps, calibrated on the training text where they ask for it. */
  apply(name: string, recipe: unknown): Promise<Model> {
    const { model, calibrationTexts: texts, seed, signal, work } = this.context;
    const context = textContext(texts, {
      seed,
      signal,
      cache: work.statistics,
      onProgress: (_, fraction) => this.context.progress(name, 'calibrate', fraction),
      onTexts: (count) => {
        this.calibrated = count;
      },
    });
    return applyRecipe(model, recipe, context);
  }
}

const sha256 = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');
