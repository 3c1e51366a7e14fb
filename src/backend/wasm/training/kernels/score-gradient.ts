import type { ScoreExpression } from '../../../../program/score/expression.ts';
import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32, f32x4, type I32, i32, v128 } from '../../instructions.ts';
import type { PairBlock } from '../../kernels/attention.ts';
import { type Blocks, scoreRow } from '../../kernels/attention-tiles.ts';
import { type Fields, type KernelContext, splat, times } from '../../kernels/kernel.ts';
import { scoreHook } from '../../kernels/score.ts';

type At = Readonly<Record<string, Variable<'i32' | 'f32'>>>;

/** A block of scores and of their gradients, rows `scoreRow(blocks)` bytes apart. */
export interface GradientBlock extends PairBlock {
  readonly scores: I32;
  readonly gradients: I32;
}

/** What the backward pass of attention does beside its own, where scores are changed. */
export interface GradientHook {
  readonly fields: Fields;
  /** Bytes of scratch, a multiple of 16. */
  readonly scratchBytes: number;
  build(context: KernelContext): {
    /** Scores as products → as softmax saw them. */
    readonly before: (f: FunctionBuilder, at: At, block: GradientBlock) => void;
    /** Gradients of changed scores → of products. */
    readonly after: (f: FunctionBuilder, at: At, block: GradientBlock) => void;
  };
}

export interface ScoreChangeVariant {
  readonly score: ScoreExpression;
  readonly slope: ScoreExpression;
  /** Whether a table has a gradient. */
  readonly table: boolean;
}

/** Through an expression of the score: its slope, pair by pair, and the sums over the pairs that read a table's weight. */
export function scoreGradientHook({ score, slope, table }: ScoreChangeVariant, blocks: Blocks): GradientHook {
  const [change, bend] = [scoreHook(score, blocks), scoreHook(slope, blocks)];
  const ROW = scoreRow(blocks);
  const BLOCK = blocks.query * ROW;
  return {
    fields: {
      ...change.fields,
      slopeConstants: 'i32',
      /** From the table to its gradient, and what a pair's gradient is multiplied by. */
      dTable: 'i32',
      tableSlope: 'f32',
    },
    scratchBytes: BLOCK + change.scratchBytes + bend.scratchBytes,
    build(context) {
      const [changed, bent] = [change.build(context), bend.build(context)];
      const copy = copyBlock(context, BLOCK);
      const multiply = multiplyRow(context);
      const gather = table ? addToTable(context) : 0;
      const eachRow = (f: FunctionBuilder, rows: I32, body: (i: Variable<'i32'>) => void) => {
        const i = f.local('i32');
        f.for(i, i32.const(0), rows, 1, () => body(i));
      };
      const own = (scratch: I32, bytes: number): I32 => i32.add(scratch, i32.const(bytes));
      const slopesOf = ({ scratch }: GradientBlock) => own(scratch, change.scratchBytes + bend.scratchBytes);
      return {
        before(f, at, block) {
          const { scratch, scores, rows } = block;
          const slopes = slopesOf(block);
          f.call(copy, scores, slopes);
          const bentAt = { ...at, scoreConstants: at.slopeConstants };
          const bentPairs = { ...block, scratch: own(scratch, change.scratchBytes) };
          changed.block(f, at, block);
          bent.block(f, bentAt, bentPairs);
          eachRow(f, rows, (i) => {
            const from = (base: I32) => i32.add(base, i32.mul(i, i32.const(ROW)));
            changed.rows(f, at, { ...block, scores: from(scores), from: i, count: 1 });
            bent.rows(f, bentAt, { ...bentPairs, scores: from(slopes), from: i, count: 1 });
          });
        },
        after(f, at, block) {
          const { gradients, head, row, rows, first, keys } = block;
          const named = at as Record<string, Variable<'i32'>> &
            Record<'scoreScale' | 'tableSlope', Variable<'f32'>>;
          eachRow(f, rows, (i) => {
            const from = (base: I32) => i32.add(base, i32.mul(i, i32.const(ROW)));
            if (table) {
              const columns = i32.add(times(named.reach, 2), i32.const(1));
              f.call(
                gather,
                from(gradients),
                i32.add(i32.add(named.table, named.dTable), times(i32.mul(head, columns), 4)),
                i32.sub(first, i32.add(row, i)),
                named.reach,
                keys,
                named.tableSlope,
              );
            }
            f.call(multiply, from(gradients), from(slopesOf(block)), keys, named.scoreScale);
          });
        },
      };
    },
  };
}

function copyBlock({ module }: KernelContext, bytes: number): number {
  return module.func('training_score_copy', { from: 'i32', to: 'i32' }, (f, p) => {
    const i = f.local('i32');
    f.for(i, i32.const(0), i32.const(bytes), 16, () =>
      f.emit(v128.store(i32.add(p.to, i), v128.load(i32.add(p.from, i)))),
    );
  });
}

/** `d *= slope · scale`, over a row. */
function multiplyRow({ module }: KernelContext): number {
  return module.func(
    'training_score_slope',
    { d: 'i32', slope: 'i32', keys: 'i32', scale: 'f32' },
    (f, p) => {
      const end = f.local('i32', i32.add(p.d, times(p.keys, 4)));
      const scale = f.local('v128', splat(p.scale));
      f.while(
        () => i32.lt_u(p.d, end),
        () => {
          const factor = f32x4.mul(v128.load(p.slope), scale);
          f.emit(v128.store(p.d, f32x4.mul(v128.load(p.d), factor)));
          f.increment(p.d, 16);
          f.increment(p.slope, 16);
        },
      );
    },
  );
}

/** Adds each pair's gradient to that of the weight at its clipped distance. */
function addToTable({ module }: KernelContext): number {
  return module.func(
    'training_score_table',
    { d: 'i32', table: 'i32', distance: 'i32', reach: 'i32', keys: 'i32', factor: 'f32' },
    (f, p) => {
      const at = f.local('i32');
      const least = f.local('i32', i32.sub(i32.const(0), p.reach));
      const end = f.local('i32', i32.add(p.d, times(p.keys, 4)));
      f.for(p.d, p.d, end, 4, () => {
        f.set(at, i32.max_s(i32.min_s(p.distance, p.reach), least));
        f.set(at, i32.add(p.table, times(i32.add(at, p.reach), 4)));
        f.emit(f32.store(at, f32.add(f32.load(at), f32.mul(f32.load(p.d), p.factor))));
        f.increment(p.distance, 1);
      });
    },
  );
}
