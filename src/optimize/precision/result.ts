import type { RecipeStep } from '../../compress/index.ts';
import type { MachineProfile } from '../../device/profile.ts';
import type { CardModel } from '../result.ts';
import type { FrontPoint } from './front.ts';
import type { MixtureLimits } from './mixture.ts';
import type { Sensitivity } from './sensitivity.ts';

/** All that `quantization.json` says of a search for widths; the page and the tables are drawn from nothing else. */
export interface PrecisionReport {
  readonly version: 1;
  readonly model: Pick<CardModel, 'name' | 'source' | 'architecture' | 'layers' | 'parameters'>;
  readonly machine: MachineProfile;
  readonly limits: MixtureLimits;
  readonly method: string;
  /** The step that makes the chosen mixture. */
  readonly step: RecipeStep;
  readonly sensitivity: Sensitivity;
  readonly chosen: FrontPoint;
  /** The chosen mixture first; others and uniform widths where they were asked for. */
  readonly front: readonly FrontPoint[];
  /** Bytes of the model's artifact before. */
  readonly beforeBytes: number;
  /** Exact plan for one text of `length` tokens. */
  readonly peakBytes: number;
  readonly length: number;
  /** One text of median length, measured on this device; null where no limit asked for it. */
  readonly latencyMs: number | null;
  /** Texts that the search did not see, which its result was measured on. */
  readonly unseenTexts: number;
  readonly seed: number;
  /** ISO 8601. */
  readonly date: string;
}
