import { f32x4, i32, type V128, v128 } from '../../instructions.ts';
import { eachVector, kernel, times } from '../../kernels/kernel.ts';

/** Fields of what goes over rows `[heads, B, N, D′]` with a row of channels for each head. */
const HEAD_ROWS = { size: 'i32', pitch: 'i32', rows: 'i32' } as const;

/**
 * `to = term(x, dy, threshold)` by channel over rows `[heads, B, N, D′]`; columns that only pad are 0. A unit is one row.
 * @param reads whether a row of dy is read beside x
 */
const byThreshold = (name: string, reads: boolean, term: (x: V128, dy: V128 | null, c: V128) => V128) =>
  kernel({
    name,
    fields: { x: 'i32', dy: 'i32', to: 'i32', thresholds: 'i32', ...HEAD_ROWS },
    build(_context, f, at, begin, end) {
      const [row, x, dy, to, c, step] = f.localArray('i32', 6);
      f.for(row, begin, end, 1, () => {
        f.set(step, i32.mul(row, times(at.pitch, 4)));
        f.set(to, i32.add(at.to, step));
        eachVector(f, at.pitch, [to], 1, (lanes) => lanes.store(to, v128.zero));
        f.set(to, i32.add(at.to, step));
        f.set(x, i32.add(at.x, step));
        f.set(dy, i32.add(at.dy, step));
        f.set(c, i32.add(at.thresholds, i32.mul(i32.div_u(row, at.rows), times(at.pitch, 4))));
        eachVector(f, at.size, [x, dy, to, c], 1, (lanes) =>
          lanes.store(to, term(lanes.load(x), reads ? lanes.load(dy) : null, lanes.load(c))),
        );
      });
    },
  });

/** See `spikes`. */
export const spikesKernel = byThreshold('training_spikes', false, (x, _dy, c) =>
  v128.and(f32x4.gt(x, c), v128.f32x4(1)),
);

/** See `spikesGradient`. */
export const spikesGradientKernel = byThreshold('training_spikes_gradient', true, (x, dy, c) => {
  const away = f32x4.abs(f32x4.sub(x, c));
  return f32x4.mul(dy!, f32x4.max(v128.zero, f32x4.sub(v128.f32x4(1), away)));
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
