import type { Model } from '../model/config.ts';
import {
  byteSize,
  formatSpec,
  type Section,
  sections,
  specOf,
  type Weight,
  type WeightSpec,
} from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { validateConfig, validateSpecs, validateTokenizer } from './artifact-config.ts';
import { compactTokenizer } from './hugging-face-word-piece.ts';
import { canonicalJson } from './json.ts';
import { type Probe, validateProbe } from './probe.ts';
import { encodeSafetensorsHeader, type TensorDeclaration } from './safetensors.ts';
import { sectionCheck } from './section-check.ts';
import { BlockHash } from './sha256.ts';

export const FORMAT = 'attenuate';
export const FORMAT_VERSION = 1;
/** As long as a hash, so that a header can be written before its data and then again. */
export const NO_HASH = '0'.repeat(64);

/** The safetensors name of one section of a weight. */
export const tensorName = (weight: string, section: Section['name']): string =>
  section === 'values' ? weight : `${weight}:${section}`;

/**
 * The whole file as safetensors header and then, weight by weight in the order of their names, its sections. Equal
 * models give equal bytes.
 */
export interface ArtifactLayout {
  readonly byteLength: number;
  /** @param hash of the data part, or `NO_HASH`: every header of a layout has the same length */
  header(hash: string): Uint8Array;
  /** The data part, piece by piece. @throws `WEIGHT_SHAPE`, the codes of `sectionCheck`, and the signal's reason */
  data(signal?: AbortSignal): AsyncIterable<Uint8Array>;
}

/** A tokenizer in the fewest bytes that say the same. */
const stored = (tokenizer: Model['tokenizer']): Model['tokenizer'] =>
  tokenizer?.kind === 'huggingface' ? (compactTokenizer(tokenizer) ?? tokenizer) : tokenizer;

/**
 * Plans the artifact of a model. @param probe what the reference makes of exactly this model
 * @throws `ARTIFACT_CONFIG`, `ARTIFACT_TOKENIZER`, `ARTIFACT_WEIGHTS`, `ARTIFACT_PROBE` for what could not be read back
 */
export function layoutArtifact(model: Model, probe?: Probe): ArtifactLayout {
  const weights = [...model.weights.specs].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const specs = Object.fromEntries(weights.map(([name, spec]) => [name, specOf(spec)]));
  const texts = {
    config: canonicalJson(model.config),
    recipe: canonicalJson(model.recipe),
    tokenizer: canonicalJson(stored(model.tokenizer)),
    provenance: canonicalJson(model.provenance),
    weights: canonicalJson(specs),
    ...(probe && { probe: canonicalJson(probe) }),
  };
  validateConfig(JSON.parse(texts.config));
  validateTokenizer(JSON.parse(texts.tokenizer));
  validateSpecs(JSON.parse(texts.weights));
  if (probe) validateProbe(probe, model.config.vocabularySize, model.config.maxLength);

  const tensors = weights.flatMap(([name, spec]) =>
    sections(spec).map(
      (section): TensorDeclaration => ({
        name: tensorName(name, section.name),
        dtype: section.type,
        shape: section.shape,
      }),
    ),
  );
  const header = (hash: string) =>
    encodeSafetensorsHeader(tensors, {
      format: FORMAT,
      formatVersion: String(FORMAT_VERSION),
      hash: JSON.stringify(hash),
      ...texts,
    });
  const dataBytes = weights.reduce(
    (sum, [, spec]) => sum + sections(spec).reduce((bytes, section) => bytes + section.byteLength, 0),
    0,
  );
  return {
    byteLength: header(NO_HASH).length + dataBytes,
    header,
    async *data(signal) {
      for (const [name, spec] of weights) {
        signal?.throwIfAborted();
        const weight = await model.weights.read(name);
        checkWeight(name, spec, weight);
        for (const section of sections(spec)) {
          const bytes = weight.bytes.subarray(section.offset, section.offset + section.byteLength);
          sectionCheck(name, spec, section)?.(bytes);
          yield bytes;
        }
      }
    },
  };
}

function checkWeight(name: string, spec: WeightSpec, weight: Weight): void {
  if (formatSpec(weight) !== formatSpec(spec) || weight.bytes.length !== byteSize(spec))
    throw new AttenuateError(
      'WEIGHT_SHAPE',
      `[artifact] weight ${name} unlike its specification: expected ${formatSpec(spec)} in ${byteSize(spec)} bytes, got ${formatSpec(weight)} in ${weight.bytes.length}. Report the step that made it.`,
      { name },
    );
}

/** The artifact of a model, in memory. @throws as `layoutArtifact` and its `data` */
export async function encodeArtifact(model: Model, probe?: Probe): Promise<Uint8Array> {
  const layout = layoutArtifact(model, probe);
  const out = new Uint8Array(layout.byteLength);
  const hash = new BlockHash();
  let at = layout.header(NO_HASH).length;
  for await (const bytes of layout.data()) {
    out.set(bytes, at);
    at += bytes.length;
    await hash.update(bytes);
  }
  out.set(layout.header(await hash.digest()));
  return out;
}
