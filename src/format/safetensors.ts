import { AttenuateError } from '../tensor/error.ts';
import type { ByteSource } from './byte-source.ts';
import { parseJson } from './json.ts';

/** Bytes per element of the safetensors data types that exist, those we cannot compute with included. */
export const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
} as const;
export type SafetensorsType = keyof typeof DTYPE_BYTES;

export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsType;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  /** In file order; together they cover the data part without gap or overlap. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
  /** Where the data part starts and ends in the file. `dataEnd` follows from the header. */
  readonly dataStart: number;
  readonly dataEnd: number;
}

/** The format's own limit on a header. */
export const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 16;

const fail = (
  code: string,
  what: string,
  expected: unknown,
  got: unknown,
  fields: Record<string, unknown> = {},
) =>
  new AttenuateError(
    code,
    `[safetensors] ${what}: expected ${expected}, got ${got}. Download or convert the file again.`,
    { expected, got, ...fields },
  );

/**
 * Reads and checks the header of a safetensors file; nothing is allocated by what the file claims before the
 * claim is checked against the file's size.
 * Format: https://github.com/huggingface/safetensors#format
 * @throws `SAFETENSORS_HEADER` (length, JSON or an entry's form), `SAFETENSORS_DTYPE`, `SAFETENSORS_SHAPE`,
 *   `SAFETENSORS_OFFSETS` (range unlike shape × type), `SAFETENSORS_OVERLAP`, `SAFETENSORS_HOLE`,
 *   `SAFETENSORS_TRUNCATED`, `SAFETENSORS_TRAILING`
 */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  const prefix = await readStart(source, 0, 8);
  const { size } = source;
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true));
  if (length < 2 || length > MAX_HEADER_BYTES)
    throw fail('SAFETENSORS_HEADER', 'impossible header length', `2 to ${MAX_HEADER_BYTES} bytes`, length);
  if (size !== null && 8 + length > size)
    throw fail('SAFETENSORS_TRUNCATED', 'header longer than the file', `at most ${size - 8} bytes`, length);
  return parseSafetensorsHeader(await readStart(source, 8, length), size);
}

async function readStart(source: ByteSource, offset: number, length: number): Promise<Uint8Array> {
  try {
    return await source.read(offset, length);
  } catch (error) {
    if (error instanceof AttenuateError && error.code === 'SOURCE_TRUNCATED')
      throw fail(
        'SAFETENSORS_TRUNCATED',
        'file that ends in its header',
        `${offset + length} bytes`,
        error.fields.size,
      );
    throw error;
  }
}

/** Checks the header's JSON. @param size bytes of the whole file, or null when unknown */
export function parseSafetensorsHeader(json: Uint8Array, size: number | null): SafetensorsHeader {
  const header = parseJson(json, 'safetensors', 'SAFETENSORS_HEADER');
  if (!isRecord(header))
    throw fail('SAFETENSORS_HEADER', 'header of another kind', 'an object', kind(header));
  const dataStart = 8 + json.length;
  const metadata = new Map<string, string>();
  const found: TensorEntry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (!isRecord(value))
      throw fail('SAFETENSORS_HEADER', `entry ${name} of another kind`, 'an object', kind(value), { name });
    if (name !== '__metadata__') {
      found.push(parseEntry(name, value, dataStart));
      continue;
    }
    for (const [key, text] of Object.entries(value)) {
      if (typeof text !== 'string')
        throw fail('SAFETENSORS_HEADER', `metadata ${key} of another kind`, 'a string', kind(text), { key });
      metadata.set(key, text);
    }
  }
  found.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let end = dataStart;
  for (const { name, offset, byteLength } of found) {
    if (offset < end)
      throw fail('SAFETENSORS_OVERLAP', `tensor ${name} overlaps another`, `start ${end}`, offset, { name });
    if (offset > end)
      throw fail('SAFETENSORS_HOLE', `unused bytes before tensor ${name}`, `start ${end}`, offset, { name });
    end = offset + byteLength;
  }
  if (size !== null && end > size)
    throw fail('SAFETENSORS_TRUNCATED', 'file that ends too early', `${end} bytes`, size);
  if (size !== null && end < size)
    throw fail('SAFETENSORS_TRAILING', 'bytes after the last tensor', `${end} bytes`, size);
  return { tensors: new Map(found.map((t) => [t.name, t])), metadata, dataStart, dataEnd: end };
}

function parseEntry(name: string, value: Record<string, unknown>, dataStart: number): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BYTES, dtype))
    throw fail(
      'SAFETENSORS_DTYPE',
      `unknown type of ${name}`,
      Object.keys(DTYPE_BYTES).join(', '),
      JSON.stringify(dtype)?.slice(0, 40),
      { name },
    );
  const type = dtype as SafetensorsType;
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isCount))
    throw fail(
      'SAFETENSORS_SHAPE',
      `bad shape of ${name}`,
      `up to ${MAX_RANK} sizes`,
      JSON.stringify(shape)?.slice(0, 80),
      {
        name,
      },
    );
  let byteLength: number = DTYPE_BYTES[type];
  for (const d of shape) byteLength *= d;
  // A zero after a huge product hides an overflow, so that every partial product is checked too.
  if (!Number.isSafeInteger(byteLength) || !Number.isSafeInteger(shape.reduce((p, d) => p * (d || 1), 8)))
    throw fail('SAFETENSORS_SHAPE', `shape of ${name} too large`, 'a size below 2^53 bytes', `[${shape}]`, {
      name,
    });
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount) || offsets[0] > offsets[1])
    throw fail(
      'SAFETENSORS_OFFSETS',
      `bad range of ${name}`,
      'two ascending offsets',
      JSON.stringify(offsets)?.slice(0, 80),
      { name },
    );
  if (offsets[1] - offsets[0] !== byteLength)
    throw fail(
      'SAFETENSORS_OFFSETS',
      `range of ${name} unlike its shape`,
      `${byteLength} bytes for ${type} [${shape}]`,
      offsets[1] - offsets[0],
      { name },
    );
  return { name, dtype: type, shape, offset: dataStart + offsets[0], byteLength };
}

const isCount = (x: unknown): x is number => typeof x === 'number' && Number.isSafeInteger(x) && x >= 0;
const isRecord = (x: unknown): x is Record<string, unknown> =>
  typeof x === 'object' && x !== null && !Array.isArray(x);
const kind = (x: unknown): string => (x === null ? 'null' : Array.isArray(x) ? 'an array' : typeof x);

/** What the writer is told about a tensor before its bytes come. */
export interface TensorDeclaration {
  readonly name: string;
  readonly dtype: SafetensorsType;
  readonly shape: readonly number[];
}

/** The length prefix and header for tensors laid out in the given order, padded with spaces to 8 bytes. */
export function encodeSafetensorsHeader(
  tensors: readonly TensorDeclaration[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const parts: string[] = [];
  const metadataEntries = Object.entries(metadata);
  if (metadataEntries.length) parts.push(`"__metadata__":${JSON.stringify(metadata)}`);
  const seen = new Set(['__metadata__']);
  let at = 0;
  for (const { name, dtype, shape } of tensors) {
    if (seen.has(name))
      throw fail('SAFETENSORS_HEADER', 'name used twice', 'one tensor each', name, { name });
    seen.add(name);
    const end = at + shape.reduce((product, d) => product * d, DTYPE_BYTES[dtype]);
    parts.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [at, end] })}`);
    at = end;
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  if (padded > MAX_HEADER_BYTES)
    throw fail('SAFETENSORS_HEADER', 'header too long', `at most ${MAX_HEADER_BYTES} bytes`, padded);
  const out = new Uint8Array(8 + padded).fill(0x20);
  new DataView(out.buffer).setBigUint64(0, BigInt(padded), true);
  out.set(json, 8);
  return out;
}

/** Writes a whole safetensors file, tensor by tensor. @throws `SAFETENSORS_OFFSETS` when a tensor's bytes do not fit its shape */
export async function writeSafetensors(
  tensors: readonly (TensorDeclaration & { read(): Promise<Uint8Array> | Uint8Array })[],
  metadata: Readonly<Record<string, string>>,
  sink: (bytes: Uint8Array) => Promise<void> | void,
): Promise<void> {
  await sink(encodeSafetensorsHeader(tensors, metadata));
  for (const { name, dtype, shape, read } of tensors) {
    const bytes = await read();
    const expected = shape.reduce((product, d) => product * d, DTYPE_BYTES[dtype]);
    if (bytes.length !== expected)
      throw fail('SAFETENSORS_OFFSETS', `bytes of ${name} unlike its shape`, expected, bytes.length, {
        name,
      });
    await sink(bytes);
  }
}
