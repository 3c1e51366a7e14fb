export { type Allocation, type AllocationUnit, allocate, type Option } from './allocate.ts';
export type { Distance } from './distance.ts';
export {
  findMixture,
  type MixtureProgress,
  type MixtureSearch,
  type MixtureSearchOptions,
  type QuantizeMethod,
} from './find-mixture.ts';
export { artifactBytes, plannedPeak } from './footprint.ts';
export { dominated, type FrontPoint } from './front.ts';
export { type LatencyOptions, measureLatency } from './latency.ts';
export {
  chooseMixture,
  type LatencyModel,
  type Mixture,
  type MixtureLimits,
  type MixtureRequest,
} from './mixture.ts';
export { checkOutputs } from './output-check.ts';
export { type RankedLoss, rankingWidth, rankLosses } from './rank.ts';
export type { PrecisionReport } from './result.ts';
export {
  type ActivationLoss,
  type KeptResults,
  measureSensitivity,
  type Sensitivity,
  type SensitivityOptions,
  type UnitSensitivity,
  type WidthLoss,
} from './sensitivity.ts';
export { type TaskExamples, type TaskMetric, taskMetric } from './task-metric.ts';
export { type Unit, USUAL_WIDTHS, unitsOf } from './units.ts';
