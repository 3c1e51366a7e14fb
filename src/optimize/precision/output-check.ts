import type { Model } from '../../model/config.ts';
import { type Sequence, sequencesOf } from '../sequences.ts';
import { type Distance, Reference } from './distance.ts';
import { outputsOf } from './replay.ts';

export interface CheckedOutputs {
  /** On the texts that widths were searched on. */
  readonly measured: Distance;
  /** On texts that the search did not see; null where there were none. */
  readonly unseen: Distance | null;
}

/** Outputs of models, run as they are stored, against those of the model that was given. */
export class OutputCheck {
  private readonly searched: readonly Sequence[];
  private readonly unseen: readonly Sequence[];
  private readonly signal: AbortSignal | undefined;
  private readonly references: { readonly measured: Reference; readonly unseen: Reference | null };

  private constructor(
    searched: readonly Sequence[],
    unseen: readonly Sequence[],
    rows: readonly Float32Array[],
    signal: AbortSignal | undefined,
  ) {
    this.searched = searched;
    this.unseen = unseen;
    this.signal = signal;
    this.references = {
      measured: new Reference(rows.slice(0, searched.length)),
      unseen: unseen.length > 0 ? new Reference(rows.slice(searched.length)) : null,
    };
  }

  static async open(
    model: Model,
    searched: readonly Sequence[],
    unseen: readonly Sequence[],
    signal?: AbortSignal,
  ): Promise<OutputCheck> {
    const rows = await outputsOf(model, [...searched, ...unseen], signal);
    return new OutputCheck(searched, unseen, rows, signal);
  }

  async of(model: Model): Promise<CheckedOutputs> {
    const rows = await outputsOf(model, [...this.searched, ...this.unseen], this.signal);
    const { measured, unseen } = this.references;
    return {
      measured: measured.distance(rows.slice(0, this.searched.length)),
      unseen: unseen?.distance(rows.slice(this.searched.length)) ?? null,
    };
  }
}

/** How far the outputs of a model made from another are from that one's, on at most 64 of some texts. */
export async function checkOutputs(
  model: Model,
  made: Model,
  texts: readonly string[],
  { seed = 1, maxTokens = 128, signal }: { seed?: number; maxTokens?: number; signal?: AbortSignal } = {},
): Promise<Distance & { readonly texts: number }> {
  const sequences = await sequencesOf(model, texts, { maxTexts: 64, maxTokens, seed });
  const { measured } = await (await OutputCheck.open(model, sequences, [], signal)).of(made);
  return { ...measured, texts: sequences.length };
}
