import { linearScale } from './scale.ts';
import { element, image, line, text } from './svg.ts';

export interface RunPoint {
  readonly step: number;
  readonly value: number;
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 300, 64, 620, 16, 250];

const short = (value: number): string => String(Number(value.toPrecision(3)));

/** A training run: its running loss as a line, and its score on texts held out as points. */
export function runChart(loss: readonly RunPoint[], heldOut: readonly RunPoint[]): string {
  const all = [...loss, ...heldOut];
  if (all.length === 0) return '';
  const x = linearScale([0, ...all.map(({ step }) => step)], [LEFT, RIGHT], { zero: true, count: 6 });
  const y = linearScale(
    all.map(({ value }) => value),
    [BOTTOM, TOP],
    { count: 5 },
  );
  const [first, last] = [heldOut[0] ?? loss[0], heldOut[heldOut.length - 1] ?? loss[loss.length - 1]];
  const body = [
    ...y.ticks.map(
      (tick) =>
        line(LEFT, y.map(tick), RIGHT, y.map(tick), 'grid') +
        text(LEFT - 8, y.map(tick) + 4, short(tick), 'tick', 'end'),
    ),
    ...x.ticks.map((tick) => text(x.map(tick), BOTTOM + 18, short(tick), 'tick', 'middle')),
    line(LEFT, BOTTOM, RIGHT, BOTTOM, 'axis'),
    element('polyline', {
      class: 'front',
      points: loss.map((p) => `${short(x.map(p.step))},${y.map(p.value).toFixed(1)}`).join(' '),
    }),
    ...heldOut.map((p) =>
      element('circle', { cx: x.map(p.step), cy: y.map(p.value), r: 4, class: 'point chosen' }),
    ),
    text((LEFT + RIGHT) / 2, BOTTOM + 38, 'step', 'label', 'middle'),
    text(LEFT, TOP - 4, 'loss', 'label', 'start'),
    ...legend(heldOut.length > 0),
  ].join('');
  const words = {
    title: 'Loss over the run',
    description: `Line: running mean of the training loss. Points: texts held out, from ${short(first.value)} at step ${first.step} to ${short(last.value)} at step ${last.step}.`,
  };
  return image('run', { width: WIDTH, height: HEIGHT }, words, body);
}

/** What line and points are, in the upper right, which a falling loss leaves free. */
function legend(points: boolean): string[] {
  const [x, y] = [RIGHT - 170, TOP + 6];
  return [
    line(x, y, x + 18, y, 'front'),
    text(x + 26, y + 4, 'training, running mean', 'tick', 'start'),
    ...(points
      ? [
          element('circle', { cx: x + 9, cy: y + 20, r: 4, class: 'point chosen' }),
          text(x + 26, y + 24, 'texts held out', 'tick', 'start'),
        ]
      : []),
  ];
}

/** Style of a chart that stands alone: what the card's own sheet says of these parts, light and dark. */
const ALONE = `
.chart { --ink: #1b1b19; --soft: #5c5b55; --faint: #8a8880; --grid: #ecebe4; --first: #2a62c9; --chosen: #0b7a55; font: 12px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .chart { --ink: #f0efea; --soft: #b5b3aa; --faint: #8d8b83; --grid: #34332f; --first: #7ba6f7; --chosen: #4cc79a; } }
text { fill: var(--soft); }
.grid { stroke: var(--grid); }
.axis { stroke: var(--faint); }
.front { fill: none; stroke: var(--first); stroke-width: 2; }
.point { fill: var(--chosen); }
`;

/** The chart as a file of its own, with its style inside. */
export const runChartFile = (loss: readonly RunPoint[], heldOut: readonly RunPoint[]): string =>
  runChart(loss, heldOut)
    .replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" ')
    .replace('</desc>', `</desc><style>${ALONE}</style>`);
