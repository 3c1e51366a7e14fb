import type { Activation } from '../../../program/ops/activation.ts';
import { f32, f32x4, i32, v128 } from '../instructions.ts';
import { type Finish, type ProductFamily, RAGGED_TILE, TILE } from './gemm-tile.ts';
import { type KernelContext, plus, times } from './kernel.ts';
import { activate } from './math.ts';

/** Activation and residual of the rows of a tile. */
function epilogue({ module, features }: KernelContext, name: string, activation: Activation): number {
  return module.func(
    `${name}_epilogue`,
    { c: 'i32', ldc: 'i32', residual: 'i32', ldr: 'i32', rows: 'i32' },
    (f, p) => {
      f.while(
        () => p.rows,
        () => {
          for (let j = 0; j < features.panel / 4; j++) {
            const y = f.local('v128', activate(f, features, activation, v128.load(p.c, 16 * j)));
            f.if(p.residual, () => f.set(y, f32x4.add(y, v128.load(p.residual, 16 * j))));
            f.emit(v128.store(p.c, y, 16 * j));
          }
          f.set(p.c, i32.add(p.c, p.ldc));
          f.if(p.residual, () => f.set(p.residual, i32.add(p.residual, p.ldr)));
          f.increment(p.rows, -1);
        },
      );
    },
  );
}

function copyColumns({ module }: KernelContext, name: string): number {
  return module.func(
    `${name}_columns`,
    { from: 'i32', step: 'i32', to: 'i32', ldc: 'i32', rows: 'i32', columns: 'i32' },
    (f, p) => {
      const i = f.local('i32');
      f.while(
        () => p.rows,
        () => {
          f.for(i, i32.const(0), times(p.columns, 4), 4, () =>
            f.emit(f32.store(i32.add(p.to, i), f32.load(i32.add(p.from, i)))),
          );
          f.set(p.from, i32.add(p.from, p.step));
          f.set(p.to, i32.add(p.to, p.ldc));
          f.increment(p.rows, -1);
        },
      );
    },
  );
}

/** The rows of one block against one panel: `tall` tiles of `count` + 1 rows, then `short` tiles of `count`. */
export function panelFunction(
  context: KernelContext,
  name: string,
  family: ProductFamily,
  activation: Activation,
): number {
  const { module, features, tiles } = context;
  const { opened } = family;
  const epilogueAt = epilogue(context, name, activation);
  const finish: Finish = (f, p, rows) => {
    const call = () => f.call(epilogueAt, p.c, p.ldc, p.residual, p.ldr, i32.const(rows));
    if (activation !== 'none') call();
    f.if(p.residual, () => {
      if (activation === 'none') call();
      f.set(p.residual, i32.add(p.residual, i32.mul(p.ldr, i32.const(rows))));
    });
  };
  const sets = [family, ...(opened ? [opened] : [])].map((set, i) => {
    const most = set.most(tiles);
    const byRows = Array.from({ length: most }, (_, r) =>
      set.tile(context, `${name}${i ? '_opened' : ''}`, r + 1, finish),
    );
    return { most, byRows };
  });
  const open = opened?.open(context, name);
  const copy = copyColumns(context, name);
  const { tiles: _, ...shared } = TILE;
  const work = { tall: 'i32', short: 'i32', count: 'i32', opening: 'i32' } as const;
  const parameters = { ...shared, ...work, columns: 'i32', scratch: 'i32' } as const;
  return module.func(`${name}_panel`, parameters, (f, p) => {
    const { count, short } = p;
    const [target, step, many, done, inScratch] = f.localArray('i32', 5);
    const left = f.local('i32', p.tall);
    const ragged = f.local('i32', i32.lt_u(p.columns, i32.const(features.panel)));
    f.set(step, i32.select(i32.const(features.panel * 4), p.ldc, ragged));
    if (open !== undefined)
      f.if(p.opening, () => {
        f.set(inScratch, plus(p.scratch, RAGGED_TILE));
        f.call(open, p.b, inScratch, p.K, p.scales, p.group);
        f.set(p.b, inScratch);
      });
    const call = (byRows: readonly number[]) => {
      byRows.forEach((tile, r) => {
        f.if(i32.eq(count, i32.const(r + 1)), () =>
          f.call(
            tile,
            p.a,
            p.b,
            target,
            p.K,
            p.lda,
            step,
            p.bias,
            p.scales,
            p.corrections,
            p.rowScales,
            p.group,
            p.residual,
            p.ldr,
            many,
          ),
        );
      });
    };
    f.increment(count, 1);
    f.doWhile(
      () => {
        f.while(
          () => left,
          () => {
            // A ragged panel is made in scratch and copied tile by tile.
            f.set(many, i32.select(i32.const(1), left, ragged));
            f.set(target, i32.select(p.scratch, p.c, ragged));
            if (open !== undefined)
              f.if(
                p.opening,
                () => call(sets[1].byRows),
                () => call(sets[0].byRows),
              );
            else call(sets[0].byRows);
            f.if(ragged, () => f.call(copy, p.scratch, step, p.c, p.ldc, count, p.columns));
            f.set(done, i32.mul(many, count));
            f.set(p.a, i32.add(p.a, i32.mul(p.lda, done)));
            f.set(p.c, i32.add(p.c, i32.mul(p.ldc, done)));
            f.if(p.residual, () => f.set(p.residual, i32.add(p.residual, i32.mul(p.ldr, done))));
            f.set(p.rowScales, i32.add(p.rowScales, times(done, 8)));
            f.set(left, i32.sub(left, many));
          },
        );
        f.set(left, short);
        f.set(short, i32.const(0));
        f.increment(count, -1);
      },
      () => left,
    );
  });
}
