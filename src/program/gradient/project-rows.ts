import type { ProjectRowsNode } from '../ops/project-rows.ts';
import type { Value } from '../program.ts';
import { addHeads, maskRows } from './add-heads.ts';
import { headProduct, headProductSum } from './head-product.ts';
import { plainRule } from './rule.ts';

/** dx = Eᵀ dy over the rows that exist, dE = Σ dy xᵀ over sequences and the heads of a set. */
export const projectRowsRule = plainRule<ProjectRowsNode>(
  'projectRows',
  (t, { attributes, parameters: [matrix] }, { inputs: [x, lengths], gradients: [dy], sink, trains }) => {
    if (!dy) return;
    const { from, heads } = attributes;
    const d = { value: dy, from: 0 };
    if (trains(matrix)) {
      const value: Value = maskRows(t, x, from, heads, lengths);
      headProductSum(t, d, { value, from: 0 }, 'a·bᵀ', heads, matrix);
    }
    if (!sink.wants(0)) return;
    const [, , rows, columns] = x.shape;
    const of = { form: 'aᵀ·b', heads, rows, columns } as const;
    const whole = headProduct(t, { parameter: matrix, from: 0 }, d, of);
    const part = maskRows(t, whole, 0, heads, lengths);
    sink.replace(0, addHeads(t, x.shape, sink.soFar(0), part, from));
  },
);
