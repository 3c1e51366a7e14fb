import type { Artifact } from '../format/artifact.ts';
import { decodeValues, type Probe, type ProbeSample } from '../format/probe.ts';
import { BlockHash } from '../format/sha256.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { AgreementInfo, LoadOptions, TextModel } from './types.ts';

/** Keeps what was found to agree, under a key that a change of the artifact, of the kernels or of the threads changes. */
export interface AgreementStore {
  has(key: string): Promise<boolean>;
  add(key: string): Promise<void>;
}

interface Figures {
  readonly cosine: number;
  /** ‖y − r‖² / ‖r‖² */
  readonly nmse: number;
}

/**
 * Runs an artifact's probe and compares, unless that was done here before.
 * @param code the kernels, as WebAssembly
 * @throws `AGREEMENT_FAILED` with the figures when this device does not compute what the artifact says
 */
export async function agree(
  model: Pick<TextModel, 'run' | 'config' | 'info'>,
  artifact: Pick<Artifact, 'probe' | 'hash'> | undefined,
  { verify, tilePositions }: LoadOptions,
  code: Uint8Array,
  store?: AgreementStore,
): Promise<AgreementInfo> {
  if (!artifact?.probe) return { state: 'no probe' };
  if (verify === false || tilePositions) return { state: 'not verified' };
  const { config, info } = model;
  const hash = new BlockHash();
  await hash.update(code);
  const said = JSON.stringify([artifact.hash, config, artifact.probe, info.threads]);
  await hash.update(new TextEncoder().encode(said));
  const key = await hash.digest();
  if (await store?.has(key)) return { state: 'remembered' };
  const figures = await compareAll(model, artifact.probe);
  // A store that cannot be written to costs the next load a few milliseconds, no more.
  await store?.add(key).catch(() => {});
  return { state: 'verified', ...figures };
}

/** The worst figures of all samples, if they and the middle ones are within the artifact's limits. */
async function compareAll(
  model: Pick<TextModel, 'run' | 'info'>,
  { samples, limits }: Probe,
): Promise<Figures> {
  const { dot, level, threads } = model.info;
  const run = dot === 'u7' ? limits.length - 1 : 0;
  const outputs = await model.run(samples.map(({ ids }) => ids));
  const figures = samples.map((sample, i) => compare(outputs[i], sample, run));
  // NaN last: it is worse than any number.
  figures.sort((a, b) => (a.nmse < b.nmse || Number.isNaN(b.nmse) ? -1 : 1));
  const [median, worst] = [figures[(figures.length - 1) >> 1], figures[figures.length - 1]];
  const fits = ({ nmse, cosine }: Figures, limit: number) => nmse <= limit && cosine >= 1 - limit;
  if (fits(median, limits[run].median) && fits(worst, limits[run].worst)) return worst;
  const { median: mostMedian, worst: most } = limits[run];
  throw new AttenuateError(
    'AGREEMENT_FAILED',
    `[load] this device does not compute what the artifact says: expected NMSE ≤ ${most.toPrecision(2)}, in the middle ≤ ${mostMedian.toPrecision(2)}, got ${worst.nmse.toPrecision(3)}, in the middle ${median.nmse.toPrecision(3)}, cosine ${worst.cosine.toPrecision(6)} (${level}, ${dot}). Load with level simd128, and report the device.`,
    { ...worst, medianNmse: median.nmse, mostNmse: most, mostMedianNmse: mostMedian, level, dot, threads },
  );
}

function compare(row: Float32Array, { places, outputs }: ProbeSample, run: number): Figures {
  let [dot, ofWanted, ofGot, error] = [0, 0, 0, 0];
  decodeValues(outputs[run]).forEach((r, i) => {
    const y = row[places ? places[i] : i];
    dot += r * y;
    ofWanted += r * r;
    ofGot += y * y;
    error += (y - r) ** 2;
  });
  // Two rows of zeros agree.
  if (ofWanted === 0 && ofGot === 0) return { cosine: 1, nmse: 0 };
  return { cosine: dot / Math.sqrt(ofWanted * ofGot), nmse: error / ofWanted };
}
