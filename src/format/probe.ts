import { AttenuateError } from '../tensor/error.ts';

/** One input and what the float64 reference makes of it. */
export interface ProbeSample {
  readonly ids: readonly number[];
  /** Places in the output row whose values are kept; absent: all. */
  readonly places?: readonly number[];
  /**
   * float32, little-endian, in base64: for a device that quantises activations to 256 levels, and for one that does to
   * 128, where there are such activations.
   */
  readonly outputs: readonly string[];
}

/** How far from the stored outputs a device may be, as ‖y − r‖² / ‖r‖². */
export interface ProbeLimits {
  /** The middle one of the samples. */
  readonly median: number;
  /** Any sample. */
  readonly worst: number;
}

/** What a device has to give for an artifact before it is trusted: stored in the artifact, compared at the first load. */
export interface Probe {
  readonly samples: readonly ProbeSample[];
  /** For each of a sample's outputs. */
  readonly limits: readonly ProbeLimits[];
}

export const MOST_SAMPLES = 8;
/** Most characters of a probe as JSON. */
export const MOST_PROBE = 20_000;

export const encodeValues = (values: ArrayLike<number>): string => {
  const bytes = new Uint8Array(Float32Array.from(values).buffer);
  return btoa(String.fromCharCode(...bytes));
};

export const decodeValues = (text: string): Float32Array =>
  new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);

function isDecodable(text: unknown): boolean {
  try {
    return typeof text === 'string' && decodeValues(text).length > 0;
  } catch {
    return false;
  }
}

/** A probe from parsed JSON. @throws `ARTIFACT_PROBE` */
export function validateProbe(value: unknown, vocabularySize: number, maxLength: number): Probe {
  const { samples, limits } = (value ?? {}) as Partial<Probe>;
  const isList = (list: unknown, most: number, each: (item: unknown) => boolean) =>
    Array.isArray(list) && list.length > 0 && list.length <= most && list.every(each);
  const isCount = (limit: number) => (n: unknown) =>
    Number.isInteger(n) && (n as number) >= 0 && (n as number) < limit;
  const isSample = (given: unknown) => {
    const sample = given as ProbeSample | null;
    return (
      isList(sample?.ids, maxLength, isCount(vocabularySize)) &&
      (sample!.places === undefined || isList(sample!.places, MOST_PROBE, isCount(2 ** 31))) &&
      isList(sample!.outputs, 2, isDecodable)
    );
  };
  const isLimit = (x: unknown) => typeof x === 'number' && x > 0 && x <= 1;
  const areLimits = (given: unknown) =>
    isLimit((given as ProbeLimits | null)?.median) && isLimit((given as ProbeLimits | null)?.worst);
  if (
    isList(samples, MOST_SAMPLES, isSample) &&
    isList(limits, 2, areLimits) &&
    samples!.every(({ outputs }) => outputs.length === limits!.length) &&
    JSON.stringify(value).length <= MOST_PROBE
  )
    return { samples: samples!, limits: limits! };
  throw new AttenuateError(
    'ARTIFACT_PROBE',
    `[artifact] bad probe: expected up to ${MOST_SAMPLES} inputs of this model with their outputs, got another. Build or download the artifact again.`,
    {},
  );
}
