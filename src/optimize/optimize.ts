import { mkdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { probeModel } from '../compress/probe.ts';
import { machineProfile } from '../device/profile.ts';
import { hashModel } from '../format/hash-model.ts';
import { openModel, writeArtifact } from '../format/index.ts';
import type { Model } from '../model/config.ts';
import { elements } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { budgetMisses, DEFAULT_BUDGET, refusalText } from './budget.ts';
import { calibrationTexts } from './calibration-texts.ts';
import { Evaluator, type Finished, type Stage, type WriteArtifact } from './candidate.ts';
import { type DataOptions, type Dataset, readData } from './data.ts';
import { type Measure, measureArtifact } from './evaluate.ts';
import { INSTRUMENTS } from './measurement.ts';
import { quantile } from './metrics.ts';
import {
  type Budget,
  type CandidateRow,
  type CardData,
  type CardModel,
  type CardRow,
  isMeasured,
} from './result.ts';
import { makeScorer, type Scorer } from './score.ts';
import { baselineName, type Candidate, candidates, choose, goalOf, paretoFront } from './search.ts';
import { WorkFolder } from './work-folder.ts';

export interface OptimizeProgress {
  /** Which part of the whole: `index` of `total`; `total` grows once the data's lengths are known. */
  readonly index: number;
  readonly total: number;
  readonly name: string;
  readonly stage: Stage;
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
  /** Recipes to try instead of the usual windows: each alone, and followed by int8 quantisation. */
  recipes?: readonly Candidate[];
  /** Text that steps are calibrated on, instead of the training part of the data; what is measured on is left out. */
  calibrationTexts?: readonly string[];
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
  writeArtifact: WriteArtifact;
  measure: Measure;
}

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
  const { openModel: open, ...rest } = { ...SERVICES, ...services };
  const model = typeof given === 'string' ? await open(given) : given;
  try {
    return await new Run(model, options, rest).run();
  } finally {
    if (typeof given === 'string') await model.weights.close?.();
  }
}

const SERVICES: OptimizeServices = {
  openModel,
  // Candidates carry their probe too: what is measured is what will be written, and its device is looked at.
  writeArtifact: async (model, path, options) =>
    writeArtifact(model, path, { ...options, probe: await probeModel(model, options) }),
  measure: measureArtifact,
};

class Run {
  private readonly model: Model;
  private readonly options: OptimizeOptions;
  private readonly services: Omit<OptimizeServices, 'openModel'>;
  private readonly seed: number;
  private readonly machine = machineProfile();
  private data!: Dataset;
  private scorer!: Scorer;
  private modelHash = '';
  private index = 0;
  private total = 1;

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
    this.modelHash = await hashModel(model, options.signal);
    const texts = calibrationTexts(this.data, options.calibrationTexts);
    const evaluator = new Evaluator({
      ...{ model, seed, ...this.services },
      ...{ modelHash: this.modelHash, dataHash: this.data.hash, scorer: this.scorer },
      calibrationTexts: texts,
      ...{ machine: this.machine, signal: options.signal },
      work: await WorkFolder.open(options.out, options.resume ?? false),
      progress: (...report) => this.progress(...report),
    });

    try {
      return await this.measured(evaluator, texts.length > 0, budget, date);
    } finally {
      await evaluator.keepOnly(null);
    }
  }

  /** Measures every candidate, chooses one and puts its artifact into place. */
  private async measured(
    evaluator: Evaluator,
    calibrates: boolean,
    budget: Budget,
    date: string,
  ): Promise<CardData> {
    const { options, model, seed } = this;
    const float: Candidate = { name: baselineName(model), recipe: [] };
    const first = await evaluator.evaluate(float);
    if (first.failed)
      throw new AttenuateError(first.failed.code, first.failed.message, { candidate: float.name });
    const { lengths } = first.measurement;
    const others = candidates(model, lengths, calibrates, options.recipes);
    // The drift check and the writing of the artifact are parts too.
    this.total = others.length + 3;
    const finished: [Candidate, Finished][] = [[float, first]];
    const goal = goalOf(budget);
    const bestSoFar = () => choose(cardRows(finished, budget).filter(isMeasured), goal);
    const recipeOf = (row: CandidateRow) => finished.find(([{ name }]) => name === row.name)![0].recipe;
    for (const candidate of others) {
      this.index++;
      finished.push([candidate, await evaluator.evaluate(candidate)]);
      const best = bestSoFar();
      await evaluator.keepOnly(best && recipeOf(best));
    }
    this.index++;
    // The drift check builds the float model in its place and leaves nothing.
    const drift = evaluator.fresh ? await evaluator.drift(float, first.measurement) : null;

    const rows = cardRows(finished, budget);
    const calibration = Math.max(...finished.map(([, result]) => (result.failed ? 0 : result.calibration)));
    const measured = rows.filter(isMeasured);
    const best = choose(measured, goal);
    const artifact = best && (await this.write(best, recipeOf(best), evaluator));
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
        ...(calibration > 0 && { calibration }),
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

  /** Puts the artifact that was measured into its place, or one built anew where it is no longer there. */
  private async write(
    best: CandidateRow,
    recipe: unknown,
    evaluator: Evaluator,
  ): Promise<CardData['artifact']> {
    this.index++;
    this.progress(best.name, 'write', 0);
    const file = join(this.options.out, 'model.safetensors');
    if (!(await evaluator.take(recipe, file))) {
      const built = await evaluator.apply(best.name, best.recipe);
      await this.services.writeArtifact(built, file, { signal: this.options.signal });
    }
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

function cardRows(finished: readonly [Candidate, Finished][], budget: Budget): CardRow[] {
  const rows = finished.map(([{ name, recipe }, result]): CardRow => {
    if (result.failed) return { name, recipe, meetsBudget: false, chosen: false, failed: result.failed };
    const { sizeBytes, measurement, scores, energyMj } = result;
    const { plannedPeakBytes, measuredPeakBytes, latencyMs } = measurement;
    const misses = budgetMisses(
      { sizeBytes, plannedPeakBytes, measuredPeakBytes, latencyMs, drop: scores.drop },
      budget,
    );
    return {
      name,
      recipe: result.recipe,
      sizeBytes,
      plannedPeakBytes,
      measuredPeakBytes,
      latencyMs,
      ...scores,
      energyMj,
      meetsBudget: misses.length === 0,
      misses,
      pareto: false,
      chosen: false,
    };
  });
  const measured = rows.filter(isMeasured);
  const front = paretoFront(measured);
  return rows.map((row) => (isMeasured(row) ? { ...row, pareto: front[measured.indexOf(row)] } : row));
}
