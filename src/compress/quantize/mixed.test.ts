import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { resolveMixed } from './mixed.ts';
import { formatWidth, parseWidth, type Width } from './width.ts';

const { specs } = madeEncoder().weights;
const widths = (mixed: Record<string, string>) =>
  Object.fromEntries([...resolveMixed(specs, mixed)].map(([name, width]) => [name, formatWidth(width)]));

describe('widths by hand', () => {
  it('go by name, role and regular expression, and the last word counts', () => {
    const found = widths({
      '/^layers\\./': 'int4-g32',
      value: 'int8',
      'layers.1.feedForward.down': 'int2-g64-affine',
      embedding: 'int8',
      position: 'float16',
    });
    expect(found).toEqual({
      'embedding.word': 'int8',
      'embedding.position': 'float16',
      'embedding.tokenType': 'int8',
      ...Object.fromEntries(
        [0, 1].flatMap((i) => [
          ...['query', 'key', 'output'].map((part) => [`layers.${i}.attention.${part}.weight`, 'int4-g32']),
          [`layers.${i}.attention.value.weight`, 'int8'],
          [`layers.${i}.feedForward.up.weight`, 'int4-g32'],
          [`layers.${i}.feedForward.down.weight`, i === 1 ? 'int2-g64-affine' : 'int4-g32'],
        ]),
      ),
    });
  });

  it.each(['heads', 'layers.7.attention.query', '/quary/', 'head', 'embedding.norm', '/bias/'])(
    'fail loudly where they match nothing: %s',
    (key) => {
      expect(() => widths({ [key]: 'int8' })).toThrow(
        expect.objectContaining({ code: 'MIXED_NOTHING', fields: expect.objectContaining({ key }) }),
      );
    },
  );

  it('refuse what cannot be read, and groups that do not fit', () => {
    expect(() => widths({ '/(/': 'int8' })).toThrow(expect.objectContaining({ code: 'MIXED_PATTERN' }));
    expect(() => widths({ query: 'int5' })).toThrow(expect.objectContaining({ code: 'WIDTH_UNKNOWN' }));
    expect(() => widths({ query: 'int4-g64' })).toThrow(
      expect.objectContaining({
        code: 'GROUP_SIZE',
        message: expect.stringContaining('divisor of 32, got 64'),
      }),
    );
  });
});

describe('a width as a word', () => {
  const width = fc.oneof(
    fc.constantFrom<Width>({ codec: 'float16' }, { codec: 'int8' }, { codec: 'int8', perTensor: true }),
    fc.record<Width>({
      codec: fc.constantFrom('int4' as const, 'int2' as const),
      groupSize: fc.constantFrom(32, 64, 128),
      scheme: fc.constantFrom('symmetric' as const, 'affine' as const),
    }),
    fc.record<Width>({
      codec: fc.constantFrom('ternary' as const, 'binary' as const),
      scaleType: fc.constantFrom('float16' as const, 'float32' as const),
    }),
  );

  it('is read back as what it was', () => {
    fc.assert(
      fc.property(width, (given) => {
        const text = formatWidth(given);
        expect(formatWidth(parseWidth(text))).toBe(text);
        expect(parseWidth(text)).toMatchObject({ codec: given.codec });
      }),
    );
    expect(parseWidth('int4-g128-affine')).toEqual({ codec: 'int4', groupSize: 128, scheme: 'affine' });
  });

  it.each([
    ['', 'WIDTH_UNKNOWN'],
    ['int4-32', 'WIDTH_UNKNOWN'],
    ['int3', 'WIDTH_UNKNOWN'],
    ['int32', 'WIDTH_UNKNOWN'],
    ['int8-g32', 'CODEC_SPEC'],
    ['binary-affine', 'CODEC_SPEC'],
    ['int4-g48', 'GROUP_SIZE'],
  ])('is refused: %j', (text, code) => {
    expect(() => parseWidth(text)).toThrow(expect.objectContaining({ code }));
  });
});
