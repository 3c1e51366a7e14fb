import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AttenuateError } from '../tensor/error.ts';
import { bytesSource } from './byte-source.ts';
import { readSafetensorsHeader, type TensorDeclaration, writeSafetensors } from './safetensors.ts';

function file(header: unknown, data = 0, claimed?: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + data);
  new DataView(out.buffer).setBigUint64(0, BigInt(claimed ?? json.length), true);
  out.set(json, 8);
  return out;
}
const read = (bytes: Uint8Array) => readSafetensorsHeader(bytesSource(bytes));
const tensor = (dtype: unknown, shape: unknown, ...data_offsets: unknown[]) => ({
  dtype,
  shape,
  data_offsets,
});

async function write(tensors: readonly (TensorDeclaration & { bytes: Uint8Array })[], metadata = {}) {
  const parts: Uint8Array[] = [];
  await writeSafetensors(
    tensors.map((t) => ({ ...t, read: () => t.bytes })),
    metadata,
    (bytes) => void parts.push(bytes.slice()),
  );
  return new Uint8Array(Buffer.concat(parts));
}

describe('safetensors', () => {
  it('reads back what it wrote, hostile names included', async () => {
    const name = fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', 'toString'));
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(name, fc.array(fc.nat(4), { maxLength: 3 })), { selector: ([n]) => n }),
        async (made) => {
          const tensors = made
            .filter(([n]) => n !== '__metadata__')
            .map(([n, shape], i) => {
              const bytes = new Uint8Array(4 * shape.reduce((a, b) => a * b, 1)).fill(i + 1);
              return { name: n, dtype: 'F32' as const, shape, bytes };
            });
          const out = await write(tensors, { note: 'ü' });
          const header = await read(out);
          expect(header.metadata.get('note')).toBe('ü');
          expect(header.dataStart % 8).toBe(0);
          expect(header.tensors.size).toBe(tensors.length);
          for (const t of tensors) {
            const { offset, byteLength, shape } = header.tensors.get(t.name)!;
            expect(shape).toEqual(t.shape);
            expect(out.slice(offset, offset + byteLength)).toEqual(t.bytes);
          }
        },
      ),
    );
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  const rejections: [string, string, Uint8Array][] = [
    ['no length', 'SAFETENSORS_TRUNCATED', new Uint8Array(5)],
    ['a header of no bytes', 'SAFETENSORS_HEADER', file('', 0, 0)],
    ['a header of 2^63 bytes', 'SAFETENSORS_HEADER', file('{}', 0, 2 ** 63)],
    ['a header over 100 MB', 'SAFETENSORS_HEADER', file('{}', 0, 100_000_001)],
    ['a header longer than the file', 'SAFETENSORS_TRUNCATED', file('{}', 0, 3)],
    ['no JSON', 'SAFETENSORS_HEADER', file('{"a":')],
    ['no UTF-8', 'SAFETENSORS_HEADER', Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe)],
    ['a list', 'SAFETENSORS_HEADER', file([])],
    ['an entry that is no object', 'SAFETENSORS_HEADER', file({ a: 3 })],
    ['metadata that is no text', 'SAFETENSORS_HEADER', file({ __metadata__: { a: 3 } })],
    ['an unknown type', 'SAFETENSORS_DTYPE', file({ a: tensor('F99', [1], 0, 4) }, 4)],
    ['an inherited type', 'SAFETENSORS_DTYPE', file({ a: tensor('toString', [1], 0, 4) }, 4)],
    ['a negative size', 'SAFETENSORS_SHAPE', file({ a: tensor('F32', [-1], 0, 4) }, 4)],
    ['a broken size', 'SAFETENSORS_SHAPE', file({ a: tensor('F32', [0.5], 0, 2) }, 2)],
    ['a product over 2^53', 'SAFETENSORS_SHAPE', file({ a: tensor('F32', [2 ** 31, 2 ** 31], 0, 4) }, 4)],
    ['a hidden product', 'SAFETENSORS_SHAPE', file({ a: tensor('F32', [2 ** 40, 2 ** 40, 0], 0, 0) })],
    ['rank 17', 'SAFETENSORS_SHAPE', file({ a: tensor('F32', new Array(17).fill(1), 0, 4) }, 4)],
    ['one offset', 'SAFETENSORS_OFFSETS', file({ a: tensor('F32', [1], 4) }, 4)],
    ['descending offsets', 'SAFETENSORS_OFFSETS', file({ a: tensor('F32', [1], 4, 0) }, 4)],
    ['bytes unlike the shape', 'SAFETENSORS_OFFSETS', file({ a: tensor('F32', [2], 0, 4) }, 4)],
    [
      'an overlap',
      'SAFETENSORS_OVERLAP',
      file({ a: tensor('F32', [2], 0, 8), b: tensor('F32', [1], 4, 8) }, 8),
    ],
    ['a hole', 'SAFETENSORS_HOLE', file({ a: tensor('F32', [1], 4, 8) }, 8)],
    ['missing data', 'SAFETENSORS_TRUNCATED', file({ a: tensor('F32', [2], 0, 8) }, 7)],
    ['trailing data', 'SAFETENSORS_TRAILING', file({ a: tensor('F32', [2], 0, 8) }, 9)],
  ];
  it.each(rejections)('refuses %s: %s', async (_what, code, bytes) => {
    await expect(read(bytes)).rejects.toMatchObject({ name: 'AttenuateError', code });
  });

  it('refuses to write bytes that do not fit, or a name twice', async () => {
    const t = { name: 'a', dtype: 'F32', shape: [2], bytes: new Uint8Array(4) } as const;
    await expect(write([t])).rejects.toMatchObject({ code: 'SAFETENSORS_OFFSETS' });
    const good = { ...t, bytes: new Uint8Array(8) };
    await expect(write([good, good])).rejects.toMatchObject({ code: 'SAFETENSORS_HEADER' });
  });

  it('meets any damage with an error of its own', async () => {
    const bytes = (t: number) => new Uint8Array(t);
    const whole = await write(
      [
        { name: 'a', dtype: 'F32', shape: [2, 3], bytes: bytes(24) },
        { name: 'b', dtype: 'I8', shape: [5], bytes: bytes(5) },
      ],
      { x: 'y' },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.nat(whole.length),
        async (edits, keep) => {
          const damaged = whole.slice(0, keep % 3 === 0 ? keep : whole.length);
          for (const [at, value] of edits) if (at < damaged.length) damaged[at] = value;
          const result = await read(damaged).catch((error: unknown) => error);
          if (result instanceof Error) expect(result).toBeInstanceOf(AttenuateError);
        },
      ),
      { numRuns: 1000 },
    );
  });
});
