import { machineProfile } from '../../device/profile.ts';
import type { Model } from '../../model/config.ts';
import { configure, tilesKey } from '../../runtime/configure.ts';
import { nodePlatform } from '../../runtime/node/platform.ts';
import type { BackendInfo } from '../../runtime/types.ts';
import { byteSize, isFloat } from '../../tensor/codec.ts';
import { quantile } from '../metrics.ts';
import { timeModel } from '../precision/latency.ts';
import { type KeptResults, measureSensitivity, type Sensitivity } from '../precision/sensitivity.ts';
import { sequencesOf } from '../sequences.ts';
import { type Advice, adviceFor } from './advice.ts';
import { type StageDrift, stageDrift } from './drift.ts';
import { type Profile, profileModel } from './profile.ts';

export interface ExplainOptions {
  /** How the model is called in commands. */
  readonly name: string;
  /** Texts like those that the model will see: without them nothing is said of accuracy. */
  readonly texts?: readonly string[];
  /** Tokens of the text that is timed; default: the texts' median, or 128. */
  readonly length?: number;
  /** What the model was made from. */
  readonly against?: Model;
  readonly seed?: number;
  readonly kept?: KeptResults;
  readonly signal?: AbortSignal;
  readonly onProgress?: (what: string, fraction: number) => void;
}

export interface Explanation {
  readonly backend: Omit<BackendInfo, 'agreement'>;
  /** Whether tiles that were found on this device are used. */
  readonly tuned: boolean;
  readonly profile: Profile;
  /** One whole run, to hold the sum of the ops against. */
  readonly wholeMs: number;
  readonly weightBytes: Readonly<Record<string, number>>;
  /** What is or would be lost by each float weight in fewer bits; null without texts, or where no weight is a float. */
  readonly sensitivity: Sensitivity | null;
  /** Where the model leaves what it was made from; null where that was not given. */
  readonly drift: readonly StageDrift[] | null;
  readonly advice: readonly Advice[];
}

/** Widths that say enough of a weight. */
const WIDTHS = ['int8', 'int4-g32'];
const MOST_TEXTS = 32;
const USUAL_LENGTH = 128;

/** Why a model is as fast and as accurate as it is on this device, and what to try. */
export async function explainModel(model: Model, options: ExplainOptions): Promise<Explanation> {
  const { texts = [], against, seed = 1, kept, signal, onProgress, name } = options;
  const sampled = { maxTexts: MOST_TEXTS, maxTokens: USUAL_LENGTH, seed };
  const sequences = texts.length > 0 ? await sequencesOf(model, texts, sampled) : [];
  const median =
    sequences.length > 0
      ? Math.round(
          quantile(
            sequences.map(({ ids }) => ids.length),
            0.5,
          ),
        )
      : USUAL_LENGTH;
  const length = Math.min(options.length ?? median, model.config.maxLength);
  const { features, threads, info } = await configure(model.config, {}, nodePlatform);
  const tuned = (await nodePlatform.rememberedTiles?.(tilesKey(features)).catch(() => null)) != null;
  onProgress?.('time every op', 0);
  const profile = await profileModel(model, length, signal);
  onProgress?.('time the whole', 0.15);
  const wholeMs = await timeModel(model, length, signal);
  const floats = [...model.weights.specs.values()].some(
    ({ codec, shape }) => isFloat(codec) && shape.length > 1,
  );
  const sensitivity =
    sequences.length > 0 && floats
      ? await measureSensitivity(model, texts, {
          ...{ ...sampled, widths: WIDTHS, kept, signal },
          onProgress: ({ weight, fraction }) => onProgress?.(weight, 0.2 + 0.7 * fraction),
        })
      : null;
  onProgress?.('compare', 0.95);
  const drift = against && sequences.length > 0 ? await stageDrift(model, against, sequences, signal) : null;
  const weightBytes: Record<string, number> = {};
  for (const spec of model.weights.specs.values())
    weightBytes[spec.codec] = (weightBytes[spec.codec] ?? 0) + byteSize(spec);
  const { cores, engine } = machineProfile();
  const { level, dot } = info;
  const findings = {
    ...{ model: name, profile, level, dot, threads, cores, tuned, engine },
    weightBytes,
    sensitivity,
    drift,
  };
  return {
    ...{ backend: info, tuned, profile, wholeMs, weightBytes, sensitivity, drift },
    advice: adviceFor(findings),
  };
}
