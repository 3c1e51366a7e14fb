import { memoryFiles } from '../format/file-store.ts';
import { originFiles } from '../format/origin-files.ts';
import { browserPlatform } from '../runtime/browser-platform.ts';
import type { TrainingPlace } from './place.ts';

export type { TrainingPlace } from './place.ts';
export type { TrainingProgress } from './train.ts';

/**
 * A page, or better a worker of it: a step of training holds its thread for a while.
 * @param folder of the origin's private files: a run with the same folder goes on where an earlier one was, after the
 *   page was closed too. Without it, everything is kept in memory
 */
export const browserPlace = async (folder?: string): Promise<TrainingPlace> => ({
  files: folder === undefined ? memoryFiles() : await originFiles(folder),
  platform: browserPlatform(null),
});
