import { openModel } from '../format/index.ts';
import type { Model } from '../model/config.ts';
import { loadModel } from '../runtime/index.ts';
import type { LoadOptions, TextModel } from '../runtime/types.ts';
import { AttenuateError } from '../tensor/error.ts';

/** A model is a path: the command line opens no connection. @throws `MODEL_REMOTE` for a URL */
export function localPath(command: string, path: string): string {
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(path) && !path.startsWith('file:'))
    throw new AttenuateError(
      'MODEL_REMOTE',
      `[${command}] model that is not on this machine: expected a folder or a file, got ${path}. Download it first.`,
      { path },
    );
  return path;
}

/** Opens a model for as long as `work` takes. */
export async function withModel<T>(
  command: string,
  path: string,
  work: (model: Model) => Promise<T>,
): Promise<T> {
  const local = localPath(command, path);
  const model = await openModel(local.startsWith('file:') ? new URL(local) : local);
  try {
    return await work(model);
  } finally {
    await model.weights.close?.();
  }
}

/** Loads an open model for as long as `work` takes; its memory is returned whatever happens. */
export async function withLoaded<T>(
  model: Model,
  options: LoadOptions,
  work: (loaded: TextModel) => Promise<T>,
): Promise<T> {
  const loaded = await loadModel(model, options);
  try {
    return await work(loaded);
  } finally {
    loaded.dispose();
  }
}
