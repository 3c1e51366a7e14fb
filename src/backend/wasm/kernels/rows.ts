import type { Activation } from '../../../program/ops/activation.ts';
import type { QuantizeRowsAttributes } from '../../../program/ops/quantize-rows.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i8x16, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { eachVector, kernel, multiplyAdd, plus, reduce, splat, times } from './kernel.ts';
import { activate, exp2, ROUNDING } from './math.ts';

/** Calls `body` for each row of the unit range. */
function eachRow(
  f: FunctionBuilder,
  begin: Variable<'i32'>,
  end: Variable<'i32'>,
  body: (row: Variable<'i32'>) => void,
): void {
  const row = f.local('i32');
  f.for(row, begin, end, 1, () => body(row));
}

const sumOf = (
  f: FunctionBuilder,
  x: Variable<'i32'>,
  from: I32,
  columns: I32,
  term: (v: V128) => V128,
): Variable<'v128'> => {
  const sums = f.localArray('v128', 4);
  for (const s of sums) f.set(s, v128.zero);
  f.set(x, from);
  eachVector(f, columns, [x], 4, (lanes) =>
    f.set(sums[lanes.slot], f32x4.add(sums[lanes.slot], lanes.keep(term(lanes.load(x))))),
  );
  return reduce(f, sums, f32x4.add);
};

export const layerNormKernel = kernel({
  name: 'layer_norm',
  fields: { x: 'i32', y: 'i32', scale: 'i32', bias: 'i32', columns: 'i32', epsilon: 'f32' },
  build({ features }, f, at, begin, end) {
    const [x, y, g, b, row0] = f.localArray('i32', 5);
    const count = f.local('v128', splat(f32.convert_i32_s(at.columns)));
    eachRow(f, begin, end, (row) => {
      const step = i32.mul(row, times(at.columns, 4));
      f.set(row0, i32.add(at.x, step));
      const mean = f.local(
        'v128',
        f32x4.div(
          sumOf(f, x, row0, at.columns, (v) => v),
          count,
        ),
      );
      const centred = (v: V128) => f32x4.sub(v, mean);
      const squares = sumOf(f, x, row0, at.columns, (v) => f32x4.mul(centred(v), centred(v)));
      const factor = f.local(
        'v128',
        f32x4.div(v128.f32x4(1), f32x4.sqrt(f32x4.add(f32x4.div(squares, count), splat(at.epsilon)))),
      );
      f.set(x, row0);
      f.set(y, i32.add(at.y, step));
      f.set(g, at.scale);
      f.set(b, at.bias);
      eachVector(f, at.columns, [x, y, g, b], 1, (lanes) =>
        lanes.store(
          y,
          multiplyAdd(features)(f32x4.mul(centred(lanes.load(x)), factor), lanes.load(g), lanes.load(b)),
        ),
      );
    });
  },
});

export const l2NormalizeKernel = kernel({
  name: 'l2_normalize',
  fields: { x: 'i32', y: 'i32', columns: 'i32' },
  build(_context, f, at, begin, end) {
    const [x, y, row0] = f.localArray('i32', 3);
    eachRow(f, begin, end, (row) => {
      const step = i32.mul(row, times(at.columns, 4));
      f.set(row0, i32.add(at.x, step));
      const squares = sumOf(f, x, row0, at.columns, (v) => f32x4.mul(v, v));
      const factor = f.local(
        'v128',
        f32x4.div(v128.f32x4(1), f32x4.max(f32x4.sqrt(squares), v128.f32x4(1e-12))),
      );
      f.set(x, row0);
      f.set(y, i32.add(at.y, step));
      eachVector(f, at.columns, [x, y], 1, (lanes) => lanes.store(y, f32x4.mul(lanes.load(x), factor)));
    });
  },
});

export const softmaxKernel = kernel({
  name: 'softmax',
  fields: { x: 'i32', y: 'i32', columns: 'i32' },
  build({ features }, f, at, begin, end) {
    const [x, y, row0] = f.localArray('i32', 3);
    const largest = f.local('v128');
    const sum = f.local('v128');
    const power = f.local('v128');
    eachRow(f, begin, end, (row) => {
      const step = i32.mul(row, times(at.columns, 4));
      f.set(row0, i32.add(at.x, step));
      f.set(largest, v128.f32x4(-Infinity));
      f.set(x, row0);
      eachVector(f, at.columns, [x], 1, (lanes) =>
        f.set(largest, f32x4.pmax(largest, lanes.keepOr(lanes.load(x), v128.f32x4(-Infinity)))),
      );
      reduce(f, [largest], f32x4.pmax);
      f.set(sum, v128.zero);
      f.set(x, row0);
      f.set(y, i32.add(at.y, step));
      eachVector(f, at.columns, [x, y], 1, (lanes) => {
        f.set(power, exp2(f, features, f32x4.mul(f32x4.sub(lanes.load(x), largest), v128.f32x4(Math.LOG2E))));
        lanes.store(y, power);
        f.set(sum, f32x4.add(sum, lanes.keep(power)));
      });
      reduce(f, [sum], f32x4.add);
      f.set(sum, f32x4.div(v128.f32x4(1), sum));
      f.set(y, i32.add(at.y, step));
      eachVector(f, at.columns, [y], 1, (lanes) => lanes.store(y, f32x4.mul(lanes.load(y), sum)));
    });
  },
});

/** Elementwise over a whole tensor; a unit is one row. */
export const activationKernel = (activation: Activation) =>
  kernel({
    name: `activation_${activation}`,
    fields: { x: 'i32', y: 'i32', columns: 'i32' },
    build({ features }, f, at, begin, end) {
      const [x, y] = f.localArray('i32', 2);
      eachRow(f, begin, end, (row) => {
        const step = i32.mul(row, times(at.columns, 4));
        f.set(x, i32.add(at.x, step));
        f.set(y, i32.add(at.y, step));
        eachVector(f, at.columns, [x, y], 1, (lanes) =>
          lanes.store(y, activate(f, features, activation, lanes.load(x))),
        );
      });
    },
  });

/**
 * Affine quantisation of rows, by each row's own range or by the one at `range`, [low, high], once their columns are
 * multiplied by what stands at `by`. Codes are 0…127 (`u7`), 0…255 (`u8`, and `i16` in two bytes), or −128…127
 * (`s8`, the zero point moved along); a row of codes is padded with zeros that meet zero weights.
 */
export const quantizeRowsKernel = ({ range: given, scaled }: QuantizeRowsAttributes) =>
  kernel({
    name: `quantize_rows${given ? '_range' : ''}${scaled ? '_scaled' : ''}`,
    fields: {
      x: 'i32',
      codes: 'i32',
      scales: 'i32',
      range: 'i32',
      by: 'i32',
      columns: 'i32',
      pitch: 'i32',
    },
    build({ features }, f, at, begin, end) {
      const levels = features.dot === 'u7' ? 128 : 256;
      const shift = features.dot === 's8' ? -128 : 0;
      const [x, out, row0, by] = f.localArray('i32', 4);
      const low = f.localArray('v128', 4);
      const high = f.localArray('v128', 4);
      const r = f.localArray('v128', 4);
      const [inverse, scale, zero, magic] = f.localArray('v128', 4);
      const left = f.local('i32');
      const group = f.local('i32');
      eachRow(f, begin, end, (row) => {
        f.set(row0, i32.add(at.x, i32.mul(row, times(at.columns, 4))));
        for (const v of [...low, ...high]) f.set(v, v128.zero);
        f.set(x, row0);
        f.set(by, at.by);
        const widen = (v: Variable<'v128'>, slot: number) => {
          f.set(low[slot], f32x4.pmin(v, low[slot]));
          f.set(high[slot], f32x4.pmax(v, high[slot]));
        };
        if (given)
          for (const offset of [0, 4]) widen(f.local('v128', v128.load32_splat(at.range, offset)), 0);
        else
          eachVector(f, at.columns, scaled ? [x, by] : [x], 4, (lanes) => {
            const v = lanes.load(x);
            widen(f.local('v128', scaled ? f32x4.mul(v, lanes.load(by)) : v), lanes.slot);
          });
        const lowest = reduce(f, low, f32x4.min);
        const range = f32x4.sub(reduce(f, high, f32x4.max), lowest);
        f.set(scale, f32x4.max(f32x4.div(range, v128.f32x4(levels - 1)), v128.f32x4(1e-30)));
        f.set(inverse, f32x4.div(v128.f32x4(1), scale));
        f.set(zero, f32x4.nearest(f32x4.mul(f32x4.sub(v128.zero, lowest), inverse)));
        const scalesAt = f.local('i32', i32.add(at.scales, times(row, 8)));
        f.emit(v128.store32_lane(scalesAt, scale, 0, 0));
        f.set(magic, f32x4.mul(scale, f32x4.add(zero, v128.f32x4(shift))));
        f.emit(v128.store32_lane(scalesAt, magic, 0, 4));
        f.set(magic, f32x4.add(zero, v128.f32x4(ROUNDING)));
        f.set(x, row0);
        f.set(by, at.by);
        f.set(
          out,
          i32.add(at.codes, i32.mul(i32.mul(row, at.pitch), i32.const(features.dot === 'i16' ? 2 : 1))),
        );
        f.set(left, at.columns);
        // What lies outside a given range has to be brought inside while it is a float; a row's own range has no outside.
        const clip = (v: V128) =>
          given
            ? f32x4.min(f32x4.max(v, f32x4.sub(v128.zero, zero)), f32x4.sub(v128.f32x4(levels - 1), zero))
            : v;
        const value = (offset: number): V128 => {
          const v = v128.load(x, offset);
          return scaled ? f32x4.mul(v, v128.load(by, offset)) : v;
        };
        const sixteen = () => {
          for (let i = 0; i < 4; i++)
            f.set(
              r[i],
              i32x4.sub(f32x4.add(clip(f32x4.mul(value(16 * i), inverse)), magic), v128.i32x4(0x4b400000)),
            );
          if (shift) for (let i = 0; i < 4; i++) f.set(r[i], i32x4.add(r[i], v128.i32x4(shift)));
          // The last few columns: what stands past the row becomes the code 0.
          f.if(i32.lt_s(left, i32.const(16)), () => {
            for (let i = 0; i < 4; i++) {
              const inside = i32x4.lt_s(
                v128.i32x4(4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3),
                i32x4.splat(left),
              );
              f.set(r[i], v128.and(r[i], inside));
            }
          });
          const a = i16x8.narrow_i32x4_s(r[0], r[1]);
          const b = i16x8.narrow_i32x4_s(r[2], r[3]);
          if (features.dot === 'i16') {
            f.emit(v128.store(out, a));
            f.emit(v128.store(out, b, 16));
          } else if (features.dot === 's8') f.emit(v128.store(out, i8x16.narrow_i16x8_s(a, b)));
          else if (features.dot === 'u8') f.emit(v128.store(out, i8x16.narrow_i16x8_u(a, b)));
          else f.emit(v128.store(out, i8x16.min_u(i8x16.narrow_i16x8_u(a, b), v128.i8x16(127))));
          f.increment(x, 64);
          if (scaled) f.increment(by, 64);
          f.increment(out, features.dot === 'i16' ? 32 : 16);
          f.increment(left, -16);
        };
        f.set(group, i32.shr_u(plus(at.columns, 15), i32.const(4)));
        f.while(
          () => group,
          () => {
            sixteen();
            f.increment(group, -1);
          },
        );
      });
    },
  });
