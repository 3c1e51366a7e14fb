import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32x4, type I32, i32, v128 } from '../../instructions.ts';
import { eachVector, kernel, times } from '../../kernels/kernel.ts';

/** Fields of what goes over rows `[heads, B, N, D′]` with a row of channels for each head. */
const HEAD_ROWS = { size: 'i32', pitch: 'i32', rows: 'i32' } as const;

/** Sets the cursors to row `row`, and one to the channels of the row's head. */
function place(
  f: FunctionBuilder,
  { row, rows, pitch }: { row: Variable<'i32'>; rows: I32; pitch: I32 },
  cursors: readonly (readonly [Variable<'i32'>, I32])[],
  channels: readonly [Variable<'i32'>, I32],
): void {
  for (const [cursor, base] of cursors) f.set(cursor, i32.add(base, i32.mul(row, times(pitch, 4))));
  f.set(channels[0], i32.add(channels[1], i32.mul(i32.div_u(row, rows), times(pitch, 4))));
}

/** See `spikes`; a unit is one row. Columns that only pad stay 0. */
export const spikesKernel = kernel({
  name: 'training_spikes',
  fields: { x: 'i32', y: 'i32', thresholds: 'i32', ...HEAD_ROWS },
  build(_context, f, at, begin, end) {
    const [row, x, y, c] = f.localArray('i32', 4);
    f.for(row, begin, end, 1, () => {
      place(f, { row, rows: at.rows, pitch: at.pitch }, [[y, at.y]], [c, at.thresholds]);
      eachVector(f, at.pitch, [y], 1, (lanes) => lanes.store(y, v128.zero));
      place(
        f,
        { row, rows: at.rows, pitch: at.pitch },
        [
          [x, at.x],
          [y, at.y],
        ],
        [c, at.thresholds],
      );
      eachVector(f, at.size, [x, y, c], 1, (lanes) =>
        lanes.store(y, v128.and(f32x4.gt(lanes.load(x), lanes.load(c)), v128.f32x4(1))),
      );
    });
  },
});

/** See `spikesGradient`; a unit is one row. */
export const spikesGradientKernel = kernel({
  name: 'training_spikes_gradient',
  fields: { x: 'i32', dy: 'i32', dx: 'i32', thresholds: 'i32', ...HEAD_ROWS },
  build(_context, f, at, begin, end) {
    const [row, x, dy, dx, c] = f.localArray('i32', 5);
    f.for(row, begin, end, 1, () => {
      place(f, { row, rows: at.rows, pitch: at.pitch }, [[dx, at.dx]], [c, at.thresholds]);
      eachVector(f, at.pitch, [dx], 1, (lanes) => lanes.store(dx, v128.zero));
      place(
        f,
        { row, rows: at.rows, pitch: at.pitch },
        [
          [x, at.x],
          [dy, at.dy],
          [dx, at.dx],
        ],
        [c, at.thresholds],
      );
      eachVector(f, at.size, [x, dy, dx, c], 1, (lanes) => {
        const away = f32x4.abs(f32x4.sub(lanes.load(x), lanes.load(c)));
        const height = f32x4.max(v128.zero, f32x4.sub(v128.f32x4(1), away));
        lanes.store(dx, f32x4.mul(lanes.load(dy), height));
      });
    });
  },
});

/** `to[head] −= Σ dx` over the head's rows; a unit is one head. */
export const thresholdGradientKernel = kernel({
  name: 'training_threshold_gradient',
  fields: { dx: 'i32', to: 'i32', ...HEAD_ROWS },
  build(_context, f, at, begin, end) {
    const [head, row, dx, to, from] = f.localArray('i32', 5);
    f.for(head, begin, end, 1, () => {
      f.set(from, i32.add(at.dx, i32.mul(head, times(i32.mul(at.rows, at.pitch), 4))));
      f.for(row, i32.const(0), at.rows, 1, () => {
        f.set(dx, from);
        f.set(to, i32.add(at.to, i32.mul(head, times(at.pitch, 4))));
        eachVector(f, at.size, [dx, to], 1, (lanes) =>
          lanes.store(to, f32x4.sub(lanes.load(to), lanes.load(dx))),
        );
        f.set(from, i32.add(from, times(at.pitch, 4)));
      });
    });
  },
});

/** See `scaleHeads`; a unit is one row `[heads · size]`. `offsets` 0: none. */
export const scaleHeadsKernel = kernel({
  name: 'training_scale_heads',
  fields: { x: 'i32', y: 'i32', factors: 'i32', offsets: 'i32', heads: 'i32', size: 'i32', pitch: 'i32' },
  build(_context, f, at, begin, end) {
    const [row, head, x, y, factor, offset] = f.localArray('i32', 6);
    f.for(row, begin, end, 1, () => {
      f.for(head, i32.const(0), at.heads, 1, () => {
        const step = i32.mul(i32.add(i32.mul(row, at.heads), head), times(at.size, 4));
        f.set(x, i32.add(at.x, step));
        f.set(y, i32.add(at.y, step));
        f.set(factor, i32.add(at.factors, i32.mul(head, times(at.pitch, 4))));
        f.set(offset, i32.add(at.offsets, i32.mul(head, times(at.pitch, 4))));
        f.if(
          at.offsets,
          () =>
            eachVector(f, at.size, [x, y, factor, offset], 1, (lanes) =>
              lanes.store(y, f32x4.add(f32x4.mul(lanes.load(x), lanes.load(factor)), lanes.load(offset))),
            ),
          () =>
            eachVector(f, at.size, [x, y, factor], 1, (lanes) =>
              lanes.store(y, f32x4.mul(lanes.load(x), lanes.load(factor))),
            ),
        );
      });
    });
  },
});

/** `factors[head] += Σ x · dy`, `offsets[head] += Σ dy` over rows; a unit is one head. */
export const scaleHeadsWeightGradientKernel = kernel({
  name: 'training_scale_heads_weight_gradient',
  fields: {
    x: 'i32',
    dy: 'i32',
    factors: 'i32',
    offsets: 'i32',
    rows: 'i32',
    heads: 'i32',
    size: 'i32',
    pitch: 'i32',
  },
  build(_context, f, at, begin, end) {
    const [head, row, x, dy, factor, offset] = f.localArray('i32', 6);
    const d = f.local('v128');
    f.for(head, begin, end, 1, () => {
      f.for(row, i32.const(0), at.rows, 1, () => {
        const step = i32.mul(i32.add(i32.mul(row, at.heads), head), times(at.size, 4));
        f.set(x, i32.add(at.x, step));
        f.set(dy, i32.add(at.dy, step));
        f.set(factor, i32.add(at.factors, i32.mul(head, times(at.pitch, 4))));
        f.set(offset, i32.add(at.offsets, i32.mul(head, times(at.pitch, 4))));
        eachVector(f, at.size, [x, dy, factor, offset], 1, (lanes) => {
          f.set(d, lanes.load(dy));
          lanes.store(factor, f32x4.add(lanes.load(factor), f32x4.mul(lanes.load(x), d)));
          lanes.store(offset, f32x4.add(lanes.load(offset), d));
        });
      });
    });
  },
});
