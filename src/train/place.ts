import type { FileStore } from '../format/file-store.ts';
import type { Platform } from '../runtime/platform.ts';

/** Where a run takes place: the files that it keeps, so that it can go on after an end, and what computes it. */
export interface TrainingPlace {
  readonly files: FileStore;
  readonly platform: Platform;
}
