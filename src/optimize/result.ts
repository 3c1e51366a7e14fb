import type { Figure } from '../device/figure.ts';
import type { MachineProfile } from '../device/profile.ts';

/** Limits that a candidate must keep; what is absent is free. */
export interface Budget {
  readonly maxSizeBytes?: number;
  readonly maxMemoryBytes?: number;
  /** Median latency of one text, batch 1. */
  readonly maxLatencyMs?: number;
  /** Largest loss of the metric against the float model, absolute: 0.01 is one point. */
  readonly maxDrop?: number;
}

/** A value with its 95 % bootstrap interval. */
export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

export interface MetricFigure extends Interval {
  readonly name: 'accuracy' | 'spearman';
  /** Test examples behind the value. */
  readonly n: number;
}

export interface LatencyFigure {
  readonly median: number;
  readonly p95: number;
  /** Texts that were timed, one at a time, after a warm-up. */
  readonly samples: number;
}

/** How near a candidate's outputs are to the float model's on the same test texts. */
export interface Agreement {
  /** Share of equal predicted labels, or the mean cosine of the embeddings. */
  readonly kind: 'labels' | 'cosine';
  readonly value: number;
  readonly n: number;
}

/** One limit that a candidate breaks. `excess` is how far above the limit, as a share of it. */
export interface BudgetMiss {
  readonly limit: keyof Budget;
  readonly allowed: number;
  readonly got: number;
  readonly excess: number;
}

/** One built and measured candidate. The first row of a card is the float model. */
export interface CandidateRow {
  readonly name: string;
  /** Steps applied to the model that was given; none for the float model. */
  readonly recipe: readonly unknown[];
  readonly sizeBytes: number;
  /** Exact plan for the longest test text at batch 1, weights included. */
  readonly plannedPeakBytes: number;
  /** Largest sampled growth of heap, ArrayBuffers and WebAssembly memory in a process of its own. */
  readonly measuredPeakBytes: number;
  readonly latencyMs: LatencyFigure;
  readonly metric: MetricFigure;
  /** Loss against the float model with its paired interval; zero for the float model itself. */
  readonly drop: Interval;
  readonly agreement: Agreement;
  /** One text of the data's median length. */
  readonly energyMj: Figure;
  readonly meetsBudget: boolean;
  readonly misses: readonly BudgetMiss[];
  /** Not beaten in size, latency, peak and metric at once by another row. */
  readonly pareto: boolean;
  readonly chosen: boolean;
  readonly failed?: undefined;
}

/** A candidate that could not be built or measured; the others go on. */
export interface FailedRow {
  readonly name: string;
  readonly recipe: readonly unknown[];
  readonly meetsBudget: false;
  readonly chosen: false;
  readonly failed: { readonly code: string; readonly message: string };
}

export type CardRow = CandidateRow | FailedRow;

export interface CardModel {
  readonly name: string;
  readonly source: string;
  readonly architecture: string;
  readonly layers: number;
  readonly parameters: number;
  /** SHA-256 of configuration and weights. */
  readonly hash: string;
  readonly provenance: Readonly<Record<string, unknown>>;
}

export interface CardDataset {
  readonly source: string;
  readonly kind: 'labels' | 'pairs';
  /** How the metric is taken, in words. */
  readonly method: string;
  readonly train: number;
  readonly test: number;
  readonly classes?: number;
  /** Token counts of the test texts, special tokens included. */
  readonly tokens: { readonly median: number; readonly p95: number; readonly longest: number };
  /** Texts that steps were calibrated on, none of them measured on; absent where no candidate asked for any. */
  readonly calibration?: number;
  readonly rejectedRows: number;
  readonly hash: string;
  readonly notice?: string;
}

/** Latency of the float model at the start and again at the end: what the machine itself did meanwhile. */
export interface Drift {
  readonly startMedianMs: number;
  readonly endMedianMs: number;
  /** endMedianMs / startMedianMs */
  readonly ratio: number;
}

/** All that `card.json` says; the charts and tables are drawn from nothing else. */
export interface CardData {
  readonly version: 1;
  readonly model: CardModel;
  readonly data: CardDataset;
  readonly budget: Budget;
  /** 'smallest' where only a drop limit binds, 'least-drop' where a size, memory or latency limit was given. */
  readonly goal: 'smallest' | 'least-drop';
  readonly machine: MachineProfile;
  readonly rows: readonly CardRow[];
  /** Name of the chosen row; null when none meets the budget. */
  readonly chosen: string | null;
  /** Why nothing was chosen and what came nearest; null when something was. */
  readonly refusal: string | null;
  readonly drift: Drift | null;
  /** How the figures were taken, one sentence each. */
  readonly instruments: {
    readonly size: string;
    readonly memory: string;
    readonly latency: string;
    readonly metric: string;
    readonly energy: string;
  };
  readonly artifact: { readonly file: string; readonly sizeBytes: number } | null;
  readonly seed: number;
  /** ISO 8601, when the run began. */
  readonly date: string;
}

export const isMeasured = (row: CardRow): row is CandidateRow => row.failed === undefined;
