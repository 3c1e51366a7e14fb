export { browserPlace } from './browser.ts';
export { nodePlace } from './node/place.ts';
export type { TrainingPlace } from './place.ts';
export type { TrainingProgress } from './train.ts';
