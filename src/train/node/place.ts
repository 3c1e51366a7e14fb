import { folderFiles } from '../../format/node/folder-files.ts';
import { nodePlatform } from '../../runtime/node/platform.ts';
import type { TrainingPlace } from '../place.ts';

/** Node, and a folder that exists. */
export const nodePlace = (folder: string): TrainingPlace => ({
  files: folderFiles(folder),
  platform: nodePlatform,
});
