import { type BlockMask, buildBlockMask } from '../../program/mask/block-mask.ts';
import type { MaskExpression } from '../../program/mask/expression.ts';

export interface MaskPicture {
  /** One line a row of blocks: `█` full, `▒` partial, `·` empty. */
  readonly text: string;
  /** The same as SVG, drawn in the page's own text colour. */
  readonly svg: string;
  /** Share of the blocks that are computed. */
  readonly kept: number;
}

export interface DrawOptions {
  readonly queries: number;
  readonly keys: number;
  /** Which head is drawn, where heads differ. Default 0. */
  readonly head?: number;
  /** Tokens of one cell: a multiple of 32. Default: the smallest for which the picture has at most 64 rows. */
  readonly block?: number;
}

const CELLS = 64;
const MARKS = { full: '█', partial: '▒', empty: '·' } as const;
type Mark = keyof typeof MARKS;

/** Draws a mask by blocks, as the kernel sees it; nothing of size n² is made. */
export function drawMask(mask: MaskExpression | null, options: DrawOptions): MaskPicture {
  const { queries, keys, head = 0 } = options;
  const block = options.block ?? 32 * Math.max(1, Math.ceil(Math.max(queries, keys) / (32 * CELLS)));
  const built = buildBlockMask(mask, { heads: head + 1, queries, keys, queryBlock: block, keyBlock: block });
  const [rows, columns] = [Math.ceil(queries / block), Math.ceil(keys / block)];
  const grid = Array.from({ length: rows }, (_, row) => marksOf(built, row, rows, columns, head));
  const count = grid.flat().filter((mark) => mark !== 'empty').length;
  return {
    text: grid.map((row) => row.map((mark) => MARKS[mark]).join('')).join('\n'),
    svg: svgOf(grid, block, queries, keys),
    kept: count / Math.max(1, rows * columns),
  };
}

function marksOf(built: BlockMask, row: number, rows: number, columns: number, head: number): Mark[] {
  const list = (built.heads === 1 ? 0 : head) * rows + row;
  const marks = new Array<Mark>(columns).fill('empty');
  for (let e = built.starts[list]; e < built.ends[list]; e++)
    marks[built.entries[2 * e]] = built.entries[2 * e + 1] < 0 ? 'full' : 'partial';
  return marks;
}

function svgOf(grid: readonly (readonly Mark[])[], block: number, queries: number, keys: number): string {
  const [height, width] = [grid.length, grid[0]?.length ?? 0];
  const cells = grid.flatMap((row, y) =>
    row.flatMap((mark, x) =>
      mark === 'empty'
        ? []
        : [`<rect x="${x}" y="${y}" width="1" height="1"${mark === 'partial' ? ' opacity="0.45"' : ''}/>`],
    ),
  );
  const title = `Attention mask: ${queries} queries by ${keys} keys, cells of ${block} tokens`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" fill="currentColor">`,
    `<title>${title}</title><desc>Rows are queries, columns are keys; solid cells are full blocks, pale ones partial.</desc>`,
    ...cells,
    '</svg>',
  ].join('');
}
