import { describe, expect, it } from 'vitest';
import { runReference, runReferenceAll } from '../../src/backend/reference/interpreter.ts';
import { activation } from '../../src/program/ops/activation.ts';
import { linear } from '../../src/program/ops/linear.ts';
import { selectRows } from '../../src/program/ops/select-rows.ts';
import { decode, encode, type Weight } from '../../src/tensor/codec.ts';
import { symbol } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';
import { CaseBuilder } from './case.ts';

const builder = () => new CaseBuilder(new Random(1), {});

describe('the interpreter', () => {
  const weights = new Map<string, Weight>([
    ['w', encode('int8', [2, 2], Float32Array.from([1, -1, 0.5, 0.25]))],
    ['b', encode('float32', [2], Float32Array.from([1, -127]))],
  ]);
  const built = builder()
    .weight('w', 'int8', [2, 2])
    .weight('b', 'float32', [2])
    .data('x', Float32Array.from([1, 1]))
    .finish((t, input) => {
      const x = activation(t, input('x', [symbol('N'), 2]), 'none');
      return [linear(t, x, [t.parameter('w')], [t.parameter('b')])];
    });
  const inputs = { x: [1, 1] };

  it('reads int8 as codes and scales, and floats of 16 bits as what they decode to', () => {
    const [y] = runReference(built.program, weights, inputs, { N: 1 }, 256);
    expect(y[0]).toBeCloseTo(1, 2);
    expect(y[1]).toBeCloseTo(-127 + 0.75, 2);
    const halves = builder()
      .weight('w', 'float16', [1, 2], Float32Array.from([0.1, 3]))
      .weight('b', 'float16', [1], Float32Array.from([0.2]))
      .data('x', Float32Array.from([1, 1]))
      .finish((t, input) => [linear(t, input('x', [1, 2]), [t.parameter('w')], [t.parameter('b')])]);
    const [z] = runReference(halves.program, halves.weights, halves.inputs, {}, 256);
    const [tenth, fifth] = decode(encode('float16', [2], Float32Array.from([0.1, 0.2])));
    expect(z[0]).toBe(tenth + 3 + fifth);
  });

  it('gives every value by name', () => {
    const all = runReferenceAll(built.program, weights, inputs, { N: 1 }, 256);
    expect([...all.keys()]).toEqual([
      'x',
      'activation0.y',
      'quantizeRows1.codes',
      'quantizeRows1.scales',
      'linear2.y',
    ]);
    expect(all.get('quantizeRows1.codes')!.shape).toEqual([1, 16]);
  });

  it.each([
    ['INPUT_MISSING', weights, {}, 1],
    ['INPUT_SIZE', weights, inputs, 2],
    ['WEIGHT_MISSING', new Map(), inputs, 1],
    ['WEIGHT_SHAPE', new Map([...weights, ['w', encode('float32', [2, 2], new Float32Array(4))]]), inputs, 1],
  ] as const)('throws %s', (code, given, x, N) => {
    expect(() => runReference(built.program, given as Map<string, Weight>, x, { N }, 256)).toThrow(
      expect.objectContaining({ code }),
    );
  });

  it('throws on an index outside its table', () => {
    const bad = builder()
      .data('x', new Float32Array(4))
      .data('rows', Int32Array.from([2]))
      .finish((t, input) => [selectRows(t, input('x', [1, 2, 2]), input('rows', [1, 1]))]);
    expect(() => runReference(bad.program, bad.weights, bad.inputs, {}, 256)).toThrow(
      expect.objectContaining({ code: 'INDEX_OUT_OF_RANGE' }),
    );
  });
});
