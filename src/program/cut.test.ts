import { describe, expect, it } from 'vitest';
import type { WeightSpec } from '../tensor/codec.ts';
import { symbol } from '../tensor/dim.ts';
import { AttenuateError } from '../tensor/error.ts';
import { cutProgram } from './cut.ts';
import { activation } from './ops/activation.ts';
import { attention, stacked } from './ops/attention.ts';
import { embedding } from './ops/embedding.ts';
import { linear } from './ops/linear.ts';
import { pool } from './ops/pool.ts';
import type { Program, Value } from './program.ts';
import { type Tracer, trace } from './trace.ts';

const [B, N] = [symbol('B'), symbol('N')];
const float = (...shape: number[]): WeightSpec => ({ codec: 'float32', shape });
const kinds = (program: Program | null) => program?.nodes.map(({ kind }) => kind) ?? null;

/** One layer between an embedding and a pool. */
function traced(
  layer: (t: Tracer, x: Value, lengths: Value) => Value,
  weights: Record<string, WeightSpec>,
): Program {
  const specs = new Map(Object.entries({ word: float(10, 16), position: float(10, 16), ...weights }));
  return trace(specs, (t) => {
    const ids = t.input('ids', 'int32', [B, N]);
    const lengths = t.input('lengths', 'int32', [B]);
    const tables = { word: t.parameter('word'), position: t.parameter('position') };
    const x = t.stage('embedding', () => embedding(t, ids, null, tables, 1));
    const y = t.stage('layer', () => layer(t, x, lengths));
    t.output(t.stage('head', () => pool(t, y, lengths, 'mean')));
  });
}

const project = (t: Tracer, x: Value) =>
  linear(t, x, [t.parameter('qkv')], [t.parameter('qkvBias')], { heads: { size: 8 } });
const attend = (t: Tracer, x: Value, lengths: Value) =>
  attention(t, { ...stacked(project(t, x), 2), lengths }, { heads: 2, headSize: 8, scale: 1 })[0];

describe('cutProgram', () => {
  const weights = { qkv: float(48, 16), qkvBias: float(48), out: float(16, 16), outBias: float(16) };

  it('cuts a layer before and after its attention, with nothing left out', () => {
    const program = traced((t, x, lengths) => {
      const o = attend(t, x, lengths);
      return linear(t, o, [t.parameter('out')], [t.parameter('outBias')], { residual: x });
    }, weights);
    const { first, layers, last } = cutProgram(program);
    const [{ before, mixing, after, x, y }] = layers;
    expect([first, before, mixing, after, last].map(kinds)).toEqual([
      ['embedding'],
      ['linear'],
      ['attention'],
      ['linear'],
      ['pool'],
    ]);
    expect(before!.inputs).toEqual([x]);
    expect(mixing!.inputs.map((v) => v.name)).toEqual(['lengths', before!.outputs[0].name]);
    expect(after.inputs).toEqual(expect.arrayContaining([x, mixing!.outputs[0]]));
    expect(after.outputs).toEqual([y]);
    expect(last.inputs).toEqual(expect.arrayContaining([y]));
  });

  it('makes codes anew in the part that reads them', () => {
    const int8 = (...shape: number[]): WeightSpec => ({ codec: 'int8', shape });
    const program = traced(
      (t, x, lengths) => {
        const o = attend(t, x, lengths);
        const residual = linear(t, x, [t.parameter('skip')], [t.parameter('skipBias')]);
        return linear(t, o, [t.parameter('out')], [t.parameter('outBias')], { residual });
      },
      { ...weights, qkv: int8(48, 16), out: int8(16, 16), skip: int8(16, 16), skipBias: float(16) },
    );
    const [{ before, after }] = cutProgram(program).layers;
    expect(kinds(before)).toEqual(['quantizeRows', 'linear']);
    // Of x for the residual, as before; of the attention's output.
    expect(kinds(after)).toEqual(['quantizeRows', 'linear', 'quantizeRows', 'linear']);
    for (const value of [...before!.outputs, ...after.inputs]) expect(value.dtype).toBe('float32');
  });

  it('takes a layer without attention as rows alone', () => {
    const [{ before, mixing, after }] = cutProgram(traced((t, x) => activation(t, x, 'relu'), {})).layers;
    expect([before, mixing]).toEqual([null, null]);
    expect(kinds(after)).toEqual(['activation']);
  });

  it.each<[string, (t: Tracer, x: Value, lengths: Value) => Value]>([
    ['a layer that ends in its attention', attend],
    [
      'a layer that reads no rows',
      (t) =>
        embedding(
          t,
          t.input('more', 'int32', [B, N]),
          null,
          {
            word: t.parameter('word'),
            position: t.parameter('position'),
          },
          1,
        ),
    ],
  ])('refuses %s', (_, layer) => {
    const program = traced(layer, weights);
    expect(() => cutProgram(program)).toThrow(AttenuateError);
    expect(() => cutProgram(program)).toThrow(/CUT|\[cut\]/);
  });
});
