import { describe, expect, it } from 'vitest';
import type { WeightSpec } from '../tensor/codec.ts';
import { symbol } from '../tensor/dim.ts';
import { attention, stacked } from './ops/attention.ts';
import { embedding } from './ops/embedding.ts';
import { layerNorm } from './ops/layer-norm.ts';
import { linear } from './ops/linear.ts';
import { pool } from './ops/pool.ts';
import { quantizeRows } from './ops/quantize-rows.ts';
import { selectRows } from './ops/select-rows.ts';
import { type Tracer, trace } from './trace.ts';

const [B, N] = [symbol('B'), symbol('N')];
const spec = (shape: number[], codec: WeightSpec['codec'] = 'float32'): WeightSpec => ({ codec, shape });
const WEIGHTS = new Map<string, WeightSpec>([
  ['w', spec([6, 4])],
  ['w8', spec([6, 4], 'int8')],
  ['b', spec([6])],
  ['short', spec([4])],
  ['table', spec([9, 4])],
  ['wide', spec([9, 5])],
]);
const x = (t: Tracer, columns: number) => t.input('x', 'float32', [B, N, columns]);

describe('a shape that does not fit names both shapes', () => {
  it.each<[string, (t: Tracer) => unknown, string]>([
    [
      'linear: columns',
      (t) => linear(t, x(t, 5), [t.parameter('w')], [t.parameter('b')]),
      '[linear] weight w does not fit its input: expected [C, 5], got [6, 4].',
    ],
    [
      'linear: bias',
      (t) => linear(t, x(t, 4), [t.parameter('w')], [t.parameter('short')]),
      '[linear] bias short does not fit its weight: expected [6], got [4].',
    ],
    ['linear: no bias', (t) => linear(t, x(t, 4), [t.parameter('w')], []), 'got 1 weights and 0 biases.'],
    [
      'linear: codecs',
      (t) => linear(t, x(t, 4), [t.parameter('w'), t.parameter('w8')], [t.parameter('b'), t.parameter('b')]),
      'expected float32, got int8.',
    ],
    [
      'linear: heads',
      (t) => linear(t, x(t, 4), [t.parameter('w')], [t.parameter('b')], { heads: { size: 4 } }),
      'expected a multiple of 4, got 6.',
    ],
    [
      'linear: residual',
      (t) => {
        const v = x(t, 4);
        return linear(t, v, [t.parameter('w')], [t.parameter('b')], { residual: v });
      },
      'expected [B, N, 6], got [B, N, 4].',
    ],
    [
      'layerNorm',
      (t) => layerNorm(t, x(t, 4), t.parameter('short'), t.parameter('b'), 1e-5),
      'expected [4], got [6].',
    ],
    [
      'attention',
      (t) =>
        attention(t, stacked(t.input('qkv', 'float32', [5, B, N, 8]), 2), {
          heads: 2,
          headSize: 8,
          scale: 1,
        }),
      'expected at least 6 heads of rows of 8 columns, got [5, B, N, 8].',
    ],
    [
      'embedding',
      (t) =>
        embedding(t, t.input('ids', 'int32', [B, N]), null, {
          word: t.parameter('table'),
          position: t.parameter('wide'),
        }),
      'expected […, 4], got [9, 5].',
    ],
    [
      'pool',
      (t) => pool(t, t.input('x', 'float32', [B, 4]), t.input('l', 'int32', [B]), 'mean'),
      'expected [B, N, C], got [B, 4].',
    ],
    [
      'selectRows',
      (t) => selectRows(t, x(t, 4), t.input('r', 'int32', [B])),
      'expected [B, N, C] and [B, P], got [B, N, 4] and [B].',
    ],
  ])('%s', (_name, forward, message) => {
    expect(() => trace(WEIGHTS, forward)).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH', message: expect.stringContaining(message) }),
    );
  });

  it('refuses int8 where floats are read', () => {
    const weights = new Map(WEIGHTS).set('b', spec([6], 'int8'));
    expect(() => trace(weights, (t) => linear(t, x(t, 4), [t.parameter('w')], [t.parameter('b')]))).toThrow(
      expect.objectContaining({ code: 'CODEC_UNSUPPORTED' }),
    );
  });

  it('a weight', () => {
    expect(() => trace(WEIGHTS, (t) => t.parameter('w', [4, 6]))).toThrow(
      expect.objectContaining({
        code: 'WEIGHT_SHAPE',
        message: expect.stringContaining('expected [4,6], got [6,4]'),
      }),
    );
    expect(() => trace(WEIGHTS, (t) => t.parameter('none', [4, 6]))).toThrow(
      expect.objectContaining({ code: 'WEIGHT_MISSING', message: expect.stringContaining('none [4,6]') }),
    );
  });
});

describe('trace', () => {
  it('lists nodes in order, in stages, and quantises a value once', () => {
    const program = trace(WEIGHTS, (t) => {
      const v = t.stage('first', () => linear(t, x(t, 4), [t.parameter('w')], [t.parameter('b')]));
      t.stage('second', () => {
        const [codes] = quantizeRows(t, v);
        expect(quantizeRows(t, v)[0]).toBe(codes);
      });
      t.output(v);
    });
    expect(program.nodes.map((n) => n.kind)).toEqual(['linear', 'quantizeRows']);
    expect(program.stages).toEqual([
      { name: 'first', from: 0, to: 1 },
      { name: 'second', from: 1, to: 2 },
    ]);
    expect(program.outputs[0].name).toBe('linear0.y');
    const ids = [...program.inputs, ...program.nodes.flatMap((n) => n.outputs)].map((v) => v.id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('takes an int8 weight through quantised rows', () => {
    const program = trace(WEIGHTS, (t) => {
      t.output(linear(t, x(t, 4), [t.parameter('w8')], [t.parameter('b')]));
    });
    expect(program.nodes.map((n) => n.kind)).toEqual(['quantizeRows', 'linear']);
    expect(program.nodes[1].inputs.map((v) => v.dtype)).toEqual(['quantized', 'float32']);
  });
});
