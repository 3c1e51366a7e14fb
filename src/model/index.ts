export type * from './config.ts';
export { layerShape, traceEncoder } from './encoder.ts';
export { isMatrix, names } from './names.ts';
