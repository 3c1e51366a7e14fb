import type { Model, WeightPiece, WeightStore } from '../model/config.ts';
import { byteSize, type Section, sections, type Weight, type WeightSpec } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { validateConfig, validateSpecs, validateTokenizer } from './artifact-config.ts';
import { FORMAT, FORMAT_VERSION, tensorName } from './artifact-layout.ts';
import type { ByteSource } from './byte-source.ts';
import { parseJson } from './json.ts';
import { missingWeight } from './memory-store.ts';
import { type Probe, validateProbe } from './probe.ts';
import { readSafetensorsHeader, type SafetensorsHeader, type TensorEntry } from './safetensors.ts';
import { type SectionCheck, sectionCheck } from './section-check.ts';
import { BlockHash } from './sha256.ts';

/** A model in one file: safetensors, with everything else that a model is in the header's metadata. */
export interface Artifact extends Model {
  /** Of the data part, as `BlockHash` computes it. */
  readonly hash: string;
  /** What a device has to give for this model; null in an artifact without one. */
  readonly probe: Probe | null;
  /** Of the whole file. */
  readonly byteLength: number;
}

/** One tensor of the file: a section of a weight. */
interface Part {
  readonly weight: string;
  readonly section: Section;
  readonly tensor: TensorEntry;
}

/**
 * Opens an artifact: reads and checks its header, and leaves the weights where they are.
 *
 * `weights.stream` makes one pass over the file and compares the hash before it returns: until then, what it gave is
 * not yet proven. `weights.read` needs a source with random access and compares the hash of the whole file once,
 * before the first weight. `weights.close` closes the source, and so does a failure to open.
 * @throws `ARTIFACT_FORMAT` for another kind of file, `ARTIFACT_VERSION` for a newer one, `ARTIFACT_CONFIG`,
 *   `ARTIFACT_TOKENIZER`, `ARTIFACT_WEIGHTS`, `ARTIFACT_PROBE`, the codes of `readSafetensorsHeader` and of the source; while reading
 *   weights also `ARTIFACT_HASH`, the codes of `sectionCheck`, `SOURCE_SEQUENTIAL`
 */
export async function openArtifact(source: ByteSource): Promise<Artifact> {
  try {
    const header = await readSafetensorsHeader(source);
    return artifactOf(source, header);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Whether a safetensors header is an artifact's. */
export const isArtifact = (header: SafetensorsHeader): boolean => header.metadata.get('format') === FORMAT;

const bad = (code: string, what: string, expected: string, got: unknown) =>
  new AttenuateError(
    code,
    `[artifact] ${what}: expected ${expected}, got ${got}. Build or download the artifact again.`,
    { expected, got },
  );

function artifactOf(source: ByteSource, header: SafetensorsHeader): Artifact {
  if (!isArtifact(header))
    throw bad(
      'ARTIFACT_FORMAT',
      'not an artifact',
      `safetensors metadata with format ${FORMAT}`,
      header.metadata.get('format') ?? 'none',
    );
  const part = (key: string): unknown => {
    const text = header.metadata.get(key);
    if (text === undefined) throw bad('ARTIFACT_FORMAT', 'incomplete artifact', `metadata ${key}`, 'none');
    return parseJson(text, `artifact ${key}`, 'ARTIFACT_FORMAT');
  };
  const version = part('formatVersion');
  if (typeof version !== 'number' || !Number.isInteger(version) || version < 1)
    throw bad('ARTIFACT_FORMAT', 'bad formatVersion', 'an integer from 1', JSON.stringify(version));
  if (version > FORMAT_VERSION)
    throw new AttenuateError(
      'ARTIFACT_VERSION',
      `[artifact] artifact of a newer version: expected at most ${FORMAT_VERSION}, got ${version}. Update attenuate.`,
      { version, supported: FORMAT_VERSION },
    );
  const [hash, recipe, provenance] = [part('hash'), part('recipe'), part('provenance')];
  if (typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash))
    throw bad('ARTIFACT_FORMAT', 'bad hash', '64 hexadecimal digits', JSON.stringify(hash)?.slice(0, 80));
  if (!Array.isArray(recipe)) throw bad('ARTIFACT_FORMAT', 'bad recipe', 'a list of steps', typeof recipe);
  if (typeof provenance !== 'object' || provenance === null || Array.isArray(provenance))
    throw bad('ARTIFACT_FORMAT', 'bad provenance', 'an object', JSON.stringify(provenance)?.slice(0, 80));
  const specs = validateSpecs(part('weights'));
  const config = validateConfig(part('config'));
  const probe = header.metadata.has('probe')
    ? validateProbe(part('probe'), config.vocabularySize, config.maxLength)
    : null;
  return {
    config,
    tokenizer: validateTokenizer(part('tokenizer')),
    recipe,
    provenance: provenance as Record<string, unknown>,
    weights: storeOf(source, header, specs, partsOf(header, specs), hash),
    hash,
    probe,
    byteLength: header.dataEnd,
  };
}

/** The file's tensors as sections of weights, in file order. @throws `ARTIFACT_WEIGHTS` when the two do not match */
function partsOf(header: SafetensorsHeader, specs: ReadonlyMap<string, WeightSpec>): Part[] {
  const parts = new Map<string, Part>();
  for (const [weight, spec] of specs)
    for (const section of sections(spec)) {
      const name = tensorName(weight, section.name);
      const tensor = header.tensors.get(name);
      const same =
        tensor?.dtype === section.type &&
        tensor.shape.length === section.shape.length &&
        tensor.shape.every((d, i) => d === section.shape[i]);
      if (!tensor || !same || parts.has(name))
        throw bad(
          'ARTIFACT_WEIGHTS',
          `tensor ${name} unlike its weight`,
          `one ${section.type} [${section.shape}]`,
          tensor ? `${tensor.dtype} [${tensor.shape}]` : 'none',
        );
      parts.set(name, { weight, section, tensor });
    }
  if (parts.size !== header.tensors.size)
    throw bad('ARTIFACT_WEIGHTS', 'tensors of no weight', `${parts.size} tensors`, header.tensors.size);
  return [...header.tensors.keys()].map((name) => parts.get(name)!);
}

function storeOf(
  source: ByteSource,
  header: SafetensorsHeader,
  specs: ReadonlyMap<string, WeightSpec>,
  parts: readonly Part[],
  hash: string,
): WeightStore {
  const stream = (signal?: AbortSignal) => streamParts(source, header, specs, parts, hash, signal);
  let proof: Promise<void> | null = null;
  const prove = async () => {
    for await (const piece of stream()) void piece;
  };
  return {
    specs,
    stream,
    async read(name): Promise<Weight> {
      const spec = specs.get(name);
      if (!spec) throw missingWeight(name);
      if (!source.randomAccess)
        throw new AttenuateError(
          'SOURCE_SEQUENTIAL',
          `[artifact] single weight of a download: expected one pass with stream(), got read(${name}). Download the file first, or stream it.`,
          { name },
        );
      await (proof ??= prove());
      const bytes = new Uint8Array(byteSize(spec));
      for (const { section, tensor } of parts.filter(({ weight }) => weight === name))
        bytes.set(await source.read(tensor.offset, tensor.byteLength), section.offset);
      return { ...spec, bytes };
    },
    close: () => source.close(),
  };
}

async function* streamParts(
  source: ByteSource,
  header: SafetensorsHeader,
  specs: ReadonlyMap<string, WeightSpec>,
  parts: readonly Part[],
  expected: string,
  signal?: AbortSignal,
): AsyncIterable<WeightPiece> {
  const hash = new BlockHash(header.dataEnd - header.dataStart);
  let at = 0;
  let index = 0;
  let check: SectionCheck | null = null;
  for await (const chunk of source.stream(signal)) {
    const end = at + chunk.length;
    if (end > header.dataEnd)
      throw bad('SAFETENSORS_TRAILING', 'bytes after the last tensor', `${header.dataEnd} bytes`, 'more');
    if (end > header.dataStart) await hash.update(chunk.subarray(Math.max(0, header.dataStart - at)));
    for (; index < parts.length && parts[index].tensor.offset < end; index++) {
      const { weight, section, tensor } = parts[index];
      const from = Math.max(tensor.offset, at);
      const to = Math.min(tensor.offset + tensor.byteLength, end);
      const bytes = chunk.subarray(from - at, to - at);
      if (from === tensor.offset) check = sectionCheck(weight, specs.get(weight)!, section);
      check?.(bytes);
      if (to > from) yield { name: weight, offset: section.offset + from - tensor.offset, bytes };
      if (to < tensor.offset + tensor.byteLength) break;
    }
    at = end;
  }
  if (at < header.dataEnd)
    throw bad('SAFETENSORS_TRUNCATED', 'file that ends too early', `${header.dataEnd} bytes`, at);
  const got = await hash.digest();
  if (got !== expected) throw bad('ARTIFACT_HASH', 'damaged data', `hash ${expected}`, got);
}
