import { rankingWidth, rankLosses } from '../precision/rank.ts';
import type { Sensitivity } from '../precision/sensitivity.ts';
import type { StageDrift } from './drift.ts';
import type { OpTime, Profile } from './profile.ts';

/** What was found out about a model on this device. */
export interface Findings {
  /** As the command line names it. */
  readonly model: string;
  readonly profile: Profile;
  readonly level: 'simd128' | 'relaxed-simd';
  readonly dot: 'u8' | 's8' | 'u7' | 'i16';
  readonly threads: number;
  readonly cores: number;
  /** Whether tiles were found on this device, or the usual ones are used. */
  readonly tuned: boolean;
  readonly engine: string;
  readonly weightBytes: Readonly<Record<string, number>>;
  readonly sensitivity: Sensitivity | null;
  readonly drift: readonly StageDrift[] | null;
}

/** Something to try, why, and the command that does it. */
export interface Advice {
  readonly what: string;
  readonly why: string;
  readonly command: string | null;
}

const FLOATS = ['float32', 'float16', 'bfloat16'];
const percent = (part: number): string => `${Math.round(part * 100)}%`;
const sum = (ops: readonly OpTime[]): number =>
  ops.reduce((total, { milliseconds }) => total + milliseconds, 0);

/** What is worth trying, by what was measured: speed first, then size, then accuracy. */
export const adviceFor = (findings: Findings): Advice[] => [
  ...speedAdvice(findings),
  ...sizeAdvice(findings),
  ...accuracyAdvice(findings),
];

const productsOfFloats = ({ ops }: Profile): OpTime[] =>
  ops.filter(({ kind, codecs }) => kind === 'linear' && codecs.some((codec) => FLOATS.includes(codec)));

function partOf({ ops }: Profile, some: readonly OpTime[]): number {
  const total = sum(ops);
  return total > 0 ? sum(some) / total : 0;
}

function speedAdvice({ model, profile, level, dot, threads, cores, tuned, engine }: Findings): Advice[] {
  const { int8Dot, int16Dot, f32Fused, f32MulAdd } = profile.ceilings;
  const floats = partOf(profile, productsOfFloats(profile));
  const attention = partOf(
    profile,
    profile.ops.filter(({ kind }) => /attention/i.test(kind)),
  );
  const faster = (dot === 'i16' ? int16Dot : (int8Dot ?? int16Dot)) / (f32Fused ?? f32MulAdd);
  const out: Advice[] = [];
  if (floats > 0.1)
    out.push({
      what: 'Store products in integers',
      why: `products of floats take ${percent(floats)} of the time, and this device's integer instructions do ${faster.toFixed(1)} times as many operations`,
      command: `attenuate quantize ${model} --method smoothquant --calibrate texts.txt --out out`,
    });
  if (level === 'simd128')
    out.push({
      what: 'Run on an engine with relaxed SIMD',
      why: `${engine} has none: 8-bit codes are multiplied as 16 bits, and floats multiplied and added in two steps`,
      command: null,
    });
  if (threads < cores)
    out.push({
      what: 'Use more threads',
      why: `${threads} of ${cores} cores ${threads === 1 ? 'is' : 'are'} used`,
      command: `attenuate bench ${model} --threads ${threads},${cores}`,
    });
  if (!tuned)
    out.push({
      what: 'Tune the kernels',
      why: 'no tiles were chosen on this device: those are used that do well on most',
      command: 'attenuate tune',
    });
  if (attention > 0.3)
    out.push({
      what: 'Look at fewer pairs of tokens',
      why: `attention takes ${percent(attention)} of the time at ${profile.length} tokens`,
      command: `attenuate attention ${model} --file texts.txt`,
    });
  return out;
}

function sizeAdvice({ model, profile, weightBytes }: Findings): Advice[] {
  const bytes = Object.values(weightBytes).reduce((a, b) => a + b, 0);
  const floats = FLOATS.reduce((total, codec) => total + (weightBytes[codec] ?? 0), 0);
  const small = bytes === 0 || floats / bytes < 0.5 || productsOfFloats(profile).length > 0;
  if (small) return [];
  return [
    {
      what: 'Store tables in fewer bits',
      why: `${percent(floats / bytes)} of the weights' bytes are floats, though no product is`,
      command: `attenuate quantize ${model} --bits 8 --out out`,
    },
  ];
}

function accuracyAdvice({ model, sensitivity, drift }: Findings): Advice[] {
  const out: Advice[] = [];
  if (sensitivity && sensitivity.units.length > 0) {
    const width = rankingWidth(sensitivity);
    const ranked = rankLosses(sensitivity, width);
    // More than twice an even share.
    const most = ranked.filter(({ share }) => share > 2 / ranked.length).slice(0, 5);
    const named = most.map(({ weight, share }) => `${weight.replace(/\.weight$/, '')} ${percent(share)}`);
    if (most.length > 0)
      out.push({
        what: `Keep wide what loses most in ${width}`,
        why: `${named.join(', ')} of what all weights lose one by one`,
        command: `attenuate quantize ${model} --bits 4 --embeddings 4 --keep "${most.map(({ weight }) => `${weight}=int8`).join(',')}" --out out`,
      });
    out.push({
      what: 'Let each weight be as wide as it needs to be',
      why: `in ${width} the one that loses most loses ${(ranked[0].output / Math.max(1e-30, ranked[ranked.length - 1].output)).toPrecision(2)} times as much as the one that loses least`,
      command: `attenuate quantize ${model} --max-size 10MB --calibrate texts.txt --out out`,
    });
    const inputs = sensitivity.activations.filter(({ output, weights }) => output > 4 * weights);
    if (inputs.length > 0)
      out.push({
        what: 'Smooth what products read',
        why: `${inputs.map(({ stack }) => stack.replace(/\.weight$/, '')).join(', ')} ${inputs.length === 1 ? 'loses' : 'lose'} more by inputs in 8 bits than by weights`,
        command: `attenuate quantize ${model} --method smoothquant --calibrate texts.txt --out out`,
      });
  }
  const jumps = (drift ?? []).map(({ stage, error }, i, all) => ({
    stage,
    rise: error - (all[i - 1]?.error ?? 0),
  }));
  const worst = jumps.reduce((a, b) => (b.rise > a.rise ? b : a), { stage: '', rise: 0 });
  if (worst.rise > 0) {
    const layer = /^layer (\d+)$/.exec(worst.stage)?.[1];
    const keep = layer === undefined ? 'embedding=int8' : `/layers\\.${layer}\\./=int8`;
    out.push({
      what: `Store ${worst.stage} wider`,
      why: 'the error of what stages hand on grows most there',
      command: `attenuate quantize <the model before> --bits 4 --keep "${keep}" --out out`,
    });
  }
  return out;
}
