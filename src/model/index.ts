export type * from './config.ts';
export { maskOf, traceEncoder } from './encoder.ts';
export { isMatrix, names } from './names.ts';
