import { constant, key, le, or, query } from '../../program/mask/expression.ts';
import type { AttentionSpec, Calibration } from '../mechanism.ts';
import { local } from '../pattern/window.ts';
import { type HeadReport, HeadStatistics, type Pattern } from './head.ts';

const WINDOWS = [8, 16, 32, 64, 128] as const;
const firstToken = or(le(key, constant(0)), le(query, constant(0)));

/** The patterns whose mass is looked at: windows, and windows with the first token seen by and seeing all. */
export const PATTERNS: readonly Pattern[] = [
  ...WINDOWS.map((w) => ({ name: `local(${w})`, mask: local(w, w) })),
  ...WINDOWS.map((w) => ({ name: `local(${w})+first`, mask: or(local(w, w), firstToken) })),
];

/** Random features that the Performer's default has. */
const FEATURES = 256;
/** Relative error of one weight above which random features are noise. */
const UNUSABLE = 1;

/**
 * Relative standard error of one attention weight by `features` independent positive random features, from
 * ‖q + k‖² with q and k divided by D^¼ (Choromanski et al. 2021, lemma 2): √((e^‖q+k‖² − 1) / m).
 */
export const randomFeatureError = (sumNorm: number, features = FEATURES): number =>
  Math.sqrt(Math.expm1(Math.min(sumNorm, 700)) / features);

export interface LayerReport {
  readonly layer: number;
  /** Tokens of the samples, in mean. */
  readonly meanLength: number;
  readonly heads: readonly HeadReport[];
  readonly performer: { readonly relativeError: number; readonly usable: boolean };
  readonly suggestion: { readonly attention: AttentionSpec; readonly why: string };
}

/** Mass that a pattern must keep of each head for it to be suggested without training. */
const ENOUGH = 0.95;
/** Share of keys below which a mask chosen while running is worth its prediction. */
const SPARSE = 0.25;

/** Looks at one layer of a model through its calibration samples. */
export async function analyseLayer(calibration: Calibration, layer: number): Promise<LayerReport> {
  const statistics = new HeadStatistics(PATTERNS);
  let tokens = 0;
  let samples = 0;
  for await (const sample of calibration.layer(layer)) {
    statistics.add(sample);
    tokens += sample.n;
    samples++;
  }
  const heads = statistics.reports();
  const relativeError = Math.max(...heads.map(({ sumNorm }) => randomFeatureError(sumNorm)));
  const meanLength = tokens / samples;
  return {
    layer,
    meanLength,
    heads,
    performer: { relativeError, usable: relativeError <= UNUSABLE },
    suggestion: suggest(heads, meanLength),
  };
}

function suggest(heads: readonly HeadReport[], meanLength: number): LayerReport['suggestion'] {
  const percent = (x: number) => `${(100 * x).toFixed(0)} %`;
  const least = (name: string) => Math.min(...heads.map(({ kept }) => kept[name]));
  // A window that covers the texts is dense attention under another name, and says nothing of longer ones.
  const window = WINDOWS.find((w) => 2 * w + 1 < meanLength && least(`local(${w})`) >= ENOUGH);
  if (window !== undefined)
    return {
      attention: { kind: 'local', left: window, right: window },
      why: `every head keeps at least ${percent(least(`local(${window})`))} of its mass within ${window} tokens`,
    };
  const withFirst = WINDOWS.find((w) => 2 * w + 1 < meanLength && least(`local(${w})+first`) >= ENOUGH);
  if (withFirst !== undefined)
    return {
      attention: { kind: 'longformer', window: withFirst, globals: 1 },
      why: `every head keeps at least ${percent(least(`local(${withFirst})+first`))} of its mass within ${withFirst} tokens and on the first`,
    };
  const sparse = Math.max(...heads.map(({ sparse90 }) => sparse90));
  if (sparse <= SPARSE && meanLength >= 128)
    return {
      attention: { kind: 'dynamic' },
      why: `${percent(sparse)} of the keys hold 90 % of the mass, but not always the same ones`,
    };
  return {
    attention: { kind: 'dense' },
    why: `no pattern keeps ${percent(ENOUGH)} of every head's mass: ${percent(sparse)} of the keys are needed for 90 %`,
  };
}
