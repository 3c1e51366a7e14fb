import { i32, v128 } from '../../instructions.ts';
import { eachVector, kernel, times } from '../../kernels/kernel.ts';
import { type Lowering, type OpLowering, only, type Step } from '../../lowering.ts';
import { FLAT } from '../kernels/update.ts';

/** Zeros; a unit is `FLAT` floats. */
const clearFlatKernel = kernel({
  name: 'training_clear',
  fields: { y: 'i32', count: 'i32' },
  build(_context, f, at, begin, end) {
    const [unit, y, left] = f.localArray('i32', 3);
    f.for(unit, begin, end, 1, () => {
      f.set(left, i32.mul(unit, i32.const(FLAT)));
      f.set(y, i32.add(at.y, times(left, 4)));
      f.set(left, i32.min_s(i32.const(FLAT), i32.sub(at.count, left)));
      eachVector(f, left, [y], 4, (lanes) => lanes.store(y, v128.zero));
    });
  },
});

export const clearKernels: OpLowering['kernels'] = { clearFlat: only(clearFlatKernel) };

export const clearStep = (lowering: Lowering, y: number, count: number): Step =>
  lowering.step('clearFlat', { y, count }, Math.ceil(count / FLAT));
