import type { Platform } from './platform.ts';

/** From version 13.6 on V8 joins pairs of 128-bit vectors, and keeps a tile of six rows in registers. */
export const recentV8 = (): boolean => {
  const version = globalThis.process?.versions?.v8;
  return version !== undefined && Number(version.split('.').slice(0, 2).join('.')) >= 13.6;
};

/** This thread and no other, in Node and in a browser alike: for what runs beside something else. */
export const thisThread: Platform = {
  name: 'any',
  defaultThreads: 1,
  maxThreads: 1,
  spawn: async () => ({ terminate() {} }),
  enableWide: () => false,
  keepsSixRows: recentV8(),
};
