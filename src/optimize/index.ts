export { type BudgetText, DEFAULT_BUDGET, parseBudget, parseBytes } from './budget.ts';
export {
  type CalibrationOptions,
  type CalibrationProgress,
  calibrationFrom,
  type TextCalibration,
} from './calibration.ts';
export { type DataOptions, type Dataset, readData } from './data.ts';
export { type Measure, measureArtifact } from './evaluate.ts';
export { type Advice, adviceFor, type Findings } from './explain/advice.ts';
export { type StageDrift, stageDrift } from './explain/drift.ts';
export { type ExplainOptions, type Explanation, explainModel } from './explain/explain.ts';
export { type OpTime, type Profile, profileModel } from './explain/profile.ts';
export type { MeasureJob, Measurement, MeasureProgress } from './measurement.ts';
export { accuracy, cosine, pairedBootstrap, quantile, spearman } from './metrics.ts';
export {
  type ObserveOptions,
  type ObserveProgress,
  observeInputs,
  type TextObservation,
} from './observe.ts';
export { type OptimizeOptions, type OptimizeProgress, type OptimizeServices, optimize } from './optimize.ts';
export * from './precision/index.ts';
export { chooseStrength, fitProbe, type Probe, predict } from './probe.ts';
export * from './result.ts';
export type { Candidate } from './search.ts';
export { StatisticsCache } from './statistics-cache.ts';
export { type TextContextOptions, textContext } from './text-context.ts';
export { type WatchedText, type WatchOptions, watchValues } from './watch.ts';
export { WorkFolder } from './work-folder.ts';
