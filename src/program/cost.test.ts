import { describe, expect, it } from 'vitest';
import type { WeightSpec } from '../tensor/codec.ts';
import { symbol } from '../tensor/dim.ts';
import { cost } from './cost.ts';
import { and, constant, ge, head, key, le, type MaskExpression, mul, query, sub } from './mask/expression.ts';
import { attention, stacked } from './ops/attention.ts';
import { embedding } from './ops/embedding.ts';
import { linear } from './ops/linear.ts';
import { selectRows } from './ops/select-rows.ts';
import { trace } from './trace.ts';

const [B, N] = [symbol('B'), symbol('N')];
const WEIGHTS = new Map<string, WeightSpec>([
  ['w', { codec: 'float32', shape: [6, 20] }],
  ['w8', { codec: 'int8', shape: [6, 20] }],
  ['b', { codec: 'float32', shape: [6] }],
  ['table', { codec: 'int8', shape: [1000, 20] }],
]);

const attentionCost = (mask: MaskExpression | null, n: number, heads = 2) =>
  cost(
    trace(new Map(), (t) => {
      const qkv = t.input('qkv', 'float32', [3 * heads, B, N, 8]);
      t.output(
        attention(
          t,
          { ...stacked(qkv, heads), lengths: t.input('lengths', 'int32', [B]) },
          { heads, headSize: 8, scale: 1, mask },
        )[0],
      );
    }),
    { B: 3, N: n },
  ).byOp[0];

describe('cost', () => {
  it('counts a float linear', () => {
    const program = trace(WEIGHTS, (t) => {
      const x = t.input('x', 'float32', [B, N, 20]);
      t.output(t.stage('layer 0', () => linear(t, x, [t.parameter('w')], [t.parameter('b')])));
    });
    const { total, byOp } = cost(program, { B: 2, N: 5 });
    expect(byOp).toEqual([
      {
        kind: 'linear',
        stage: 'layer 0',
        name: 'linear0.y',
        multiplyAdds: 10 * 6 * 20,
        bytesRead: 10 * 20 * 4 + 6 * 20 * 4 + 24,
        bytesWritten: 10 * 6 * 4,
        weightBytes: 6 * 20 * 4 + 24,
      },
    ]);
    expect(total).toEqual({ multiplyAdds: 1200, bytesRead: 1304, bytesWritten: 240 });
  });

  it('counts one byte for a quantised activation and the scales of int8', () => {
    const program = trace(WEIGHTS, (t) => {
      t.output(linear(t, t.input('x', 'float32', [N, 20]), [t.parameter('w8')], [t.parameter('b')]));
    });
    const [quantize, product] = cost(program, { N: 5 }).byOp;
    expect(quantize).toMatchObject({
      stage: '',
      bytesRead: 400,
      bytesWritten: 5 * 32 + 5 * 8,
      weightBytes: 0,
    });
    expect(product).toMatchObject({ bytesRead: 200 + 120 + 24 + 24, weightBytes: 168 });
  });

  it('counts the rows of a table that are read, not the table', () => {
    const program = trace(WEIGHTS, (t) => {
      const x = embedding(t, t.input('ids', 'int32', [B, N]), null, { word: t.parameter('table') });
      t.output(selectRows(t, x, t.input('rows', 'int32', [B, symbol('P')])));
    });
    const [gather, select] = cost(program, { B: 2, N: 50, P: 3 }).byOp;
    expect(gather).toMatchObject({ weightBytes: 100 * 24, bytesRead: 100 * 28, bytesWritten: 100 * 80 });
    expect(select).toMatchObject({ bytesRead: 6 * 84, bytesWritten: 6 * 80, multiplyAdds: 0 });
  });

  it('counts the blocks that a mask keeps, ragged ends included', () => {
    const pair = 2 * 3 * 8;
    expect(attentionCost(null, 150).multiplyAdds).toBe(2 * pair * 150 ** 2);
    expect(attentionCost(ge(key, constant(0)), 150).multiplyAdds).toBe(2 * pair * 150 ** 2);
    const local = and(ge(sub(key, query), constant(-9)), le(sub(key, query), constant(9)));
    // Blocks of 64, 64 and 22 rows, each with its neighbours.
    expect(attentionCost(local, 150).multiplyAdds).toBe(2 * pair * (64 * 128 + 64 * 150 + 22 * 86));
    // Head 0 sees the first block of keys alone, head 1 all.
    const byHead = le(key, mul(head, constant(1000)));
    expect(attentionCost(byHead, 150).multiplyAdds).toBe(pair * (150 * 64 + 150 ** 2));
  });

  it('needs every symbol', () => {
    expect(() => attentionCost(null, undefined as unknown as number)).toThrow(
      expect.objectContaining({ code: 'DIM_UNBOUND' }),
    );
  });
});
