import type { FileStore } from '../format/file-store.ts';
import { encodeSafetensorsHeader, readSafetensorsHeader } from '../format/safetensors.ts';
import { AttenuateError } from '../tensor/error.ts';

/** Everything that a run needs to go on as if it had never stopped. */
export interface TrainingState {
  /** Steps done. */
  readonly step: number;
  /** Running mean of the loss. */
  readonly meanLoss: number | null;
  readonly best: { readonly step: number; readonly score: number } | null;
  /** Evaluations since the best. */
  readonly stale: number;
  /** Of work done so far, in all runs: tokens trained on and seconds spent. */
  readonly tokens: number;
  readonly seconds: number;
}

/** Blocks of numbers by name: weights, moments, the best weights. */
export type Blocks = ReadonlyMap<string, Float32Array>;

const FORMAT = 'attenuate-checkpoint';

/** Writes a checkpoint in one go: after a kill at any moment either the one before or this one is there, whole. */
export async function writeCheckpoint(
  files: FileStore,
  name: string,
  key: string,
  state: TrainingState,
  blocks: Blocks,
): Promise<void> {
  const tensors = [...blocks].map(([name, { length }]) => ({ name, dtype: 'F32' as const, shape: [length] }));
  const header = encodeSafetensorsHeader(tensors, { format: FORMAT, key, state: JSON.stringify(state) });
  const bytes = [...blocks.values()].map((b) => new Uint8Array(b.buffer, b.byteOffset, b.byteLength));
  await files.write(name, [header, ...bytes]);
}

/**
 * Reads a checkpoint into `blocks`, which say what it must hold; null where there is none.
 * @throws `CHECKPOINT_OTHER` for one of another run, `CHECKPOINT_DAMAGED`, the codes of `readSafetensorsHeader`
 */
export async function readCheckpoint(
  files: FileStore,
  file: string,
  key: string,
  blocks: Blocks,
): Promise<TrainingState | null> {
  const source = await files.open(file);
  if (!source) return null;
  try {
    const { metadata, tensors } = await readSafetensorsHeader(source);
    if (metadata.get('format') !== FORMAT || metadata.get('key') !== key)
      throw new AttenuateError(
        'CHECKPOINT_OTHER',
        `[train] checkpoint of another run: expected one made with the same data, model and options, got ${file}. Choose another folder, or start over without resume.`,
        { file },
      );
    for (const [name, block] of blocks) {
      const tensor = tensors.get(name);
      if (tensor?.dtype !== 'F32' || tensor.byteLength !== block.byteLength)
        throw damaged(file, `${block.length} numbers of ${name}`, tensor ? `${tensor.shape}` : 'none');
      const bytes = await source.read(tensor.offset, tensor.byteLength);
      new Uint8Array(block.buffer, block.byteOffset, block.byteLength).set(bytes);
    }
    return checkState(file, metadata.get('state'));
  } finally {
    await source.close();
  }
}

function checkState(file: string, text: string | undefined): TrainingState {
  try {
    const state: TrainingState = JSON.parse(text ?? '');
    if (Number.isInteger(state.step) && state.step >= 0) return state;
  } catch {}
  throw damaged(file, 'the state of a run', text?.slice(0, 80));
}

const damaged = (file: string, expected: string, got: unknown) =>
  new AttenuateError(
    'CHECKPOINT_DAMAGED',
    `[train] damaged checkpoint ${file}: expected ${expected}, got ${got ?? 'none'}. Start over without resume.`,
    { file },
  );
