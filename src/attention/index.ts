export { MECHANISMS } from './all.ts';
export { spikeRates } from './initialise/spiking.ts';
export { chooseMechanism, loadMechanisms } from './load.ts';
export type {
  AttentionContext,
  AttentionSpec,
  Calibration,
  InitialiseContext,
  Initialised,
  LayerSample,
  LayerShape,
  Mechanism,
  Paper,
  Tensor,
} from './mechanism.ts';
export { type OptionSpec, type OptionSpecs, parseOptions } from './options.ts';
export { type DrawOptions, drawMask, type MaskPicture } from './pattern/draw.ts';
export * from './pattern/patterns.ts';
export { local } from './pattern/window.ts';
