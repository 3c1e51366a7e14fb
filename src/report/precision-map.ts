import type { Sensitivity, UnitSensitivity } from '../optimize/precision/sensitivity.ts';
import { element, fit, image, text, tooltip } from './svg.ts';
import { significant } from './units.ts';

const LEFT = 92;
const TOP = 30;
const CELL = { width: 94, height: 40 };
const GAP = 3;

/** A relative error as people read it: the square root of a squared one, in percent. */
export const formatLoss = (squared: number): string => `${significant(Math.sqrt(squared) * 100)}%`;

interface Cell {
  readonly unit: UnitSensitivity;
  readonly row: string;
  readonly column: string;
}

const columnOf = ({ role, weight }: UnitSensitivity): string =>
  role === 'head' || role === null ? weight.replace(/^layers\.\d+\.|\.weight$/g, '') : role;

/** Tables above, then layer by layer, then the head; a column for each role, those of tables and the head by themselves. */
function gridOf(units: readonly UnitSensitivity[]): Cell[] {
  return units.map((unit) => {
    const { layer } = unit;
    const row = layer === null ? (unit.product ? 'head' : 'tables') : `layer ${layer}`;
    return { unit, row, column: columnOf(unit) };
  });
}

/** A column's place: tables and the head stand in the same columns as the first roles of the layers. */
function placesOf(cells: readonly Cell[]): { rows: string[]; placeOf(cell: Cell): number; columns: number } {
  const rows = [...new Set(cells.map(({ row }) => row))];
  const inLayers = [
    ...new Set(cells.filter(({ row }) => row.startsWith('layer')).map(({ column }) => column)),
  ];
  const placeOf = (cell: Cell): number =>
    cell.row.startsWith('layer')
      ? inLayers.indexOf(cell.column)
      : cells.filter(({ row }) => row === cell.row).indexOf(cell);
  return { rows, placeOf, columns: Math.max(...cells.map(placeOf)) + 1 };
}

/**
 * Every weight as a cell, the darker the more the output loses when that weight alone is stored in a width; in the
 * cell the relative error, and the width that was chosen for it.
 */
export function precisionMap(
  { units }: Sensitivity,
  width: string,
  chosen?: ReadonlyMap<string, string>,
): string {
  const cells = gridOf(units);
  if (cells.length === 0) return '';
  const { rows, placeOf, columns } = placesOf(cells);
  const lossOf = ({ widths }: UnitSensitivity) => widths.find((found) => found.width === width)?.output;
  const logs = units.flatMap((unit) => {
    const loss = lossOf(unit);
    return loss !== undefined && loss > 0 ? [Math.log(loss)] : [];
  });
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  const shade = (loss: number) => (loss > 0 && high > low ? (Math.log(loss) - low) / (high - low) : 0.5);
  const x = (column: number) => LEFT + column * CELL.width;
  const y = (row: string) => TOP + rows.indexOf(row) * CELL.height;
  const heads = new Map(
    cells.filter(({ row }) => row.startsWith('layer')).map((cell) => [cell.column, placeOf(cell)]),
  );
  const drawn = cells.map((cell) => {
    const [left, top] = [x(placeOf(cell)), y(cell.row)];
    const loss = lossOf(cell.unit);
    const word = chosen?.get(cell.unit.weight);
    const words = loss === undefined ? 'not measured' : formatLoss(loss);
    const middle = left + (CELL.width - GAP) / 2;
    // A cell of a table or the head has no column of its own and says what it is.
    const name = cell.row.startsWith('layer') ? '' : cell.column;
    const lines = [name, words, word ?? ''].filter(Boolean);
    const label = [cell.unit.weight, `${width}: ${words}`, word ? `chosen: ${word}` : ''];
    return (
      element(
        'rect',
        {
          x: left,
          y: top,
          width: CELL.width - GAP,
          height: CELL.height - GAP,
          rx: 5,
          class: 'heat',
          'fill-opacity': loss === undefined ? 0 : 0.08 + 0.62 * shade(loss),
        },
        tooltip(label.filter(Boolean).join('; ')),
      ) +
      lines
        .map((content, i) =>
          text(
            middle,
            top + (CELL.height - GAP) / 2 + 4 + (i - (lines.length - 1) / 2) * 12,
            fit(content, CELL.width - GAP),
            content === word ? 'heat-width' : 'heat-text',
            'middle',
          ),
        )
        .join('')
    );
  });
  const body = [
    ...[...heads].map(([name, place]) =>
      text(x(place) + (CELL.width - GAP) / 2, TOP - 9, fit(name, CELL.width), 'label', 'middle'),
    ),
    ...rows.map((row) => text(LEFT - 10, y(row) + CELL.height / 2 + 2, row, 'label', 'end')),
    ...drawn,
  ].join('');
  const size = { width: x(columns) + 4, height: TOP + rows.length * CELL.height + 4 };
  const words = {
    title: `What each weight loses in ${width}`,
    description: `${units.length} weights by layer and role; darker is more loss of the model's output. The table gives every number.`,
  };
  return image('precision-map', size, words, body);
}
