import type { FrontPoint } from '../optimize/precision/front.ts';
import { formatLoss } from './precision-map.ts';
import { logScale } from './scale.ts';
import { element, fit, image, line, text, tooltip } from './svg.ts';
import { formatBytes, shorten } from './units.ts';

const SIZE = { width: 720, height: 340 };
const PLOT = { left: 64, right: 620, top: 20, bottom: 286 };

/** Size of the file against the relative error of the output: mixtures on a line, uniform widths beside it. */
export function precisionScatter(points: readonly FrontPoint[]): string {
  const shown = points.filter(({ measured, sizeBytes }) => measured.output > 0 && sizeBytes > 0);
  if (shown.length < 2) return '';
  const errorOf = ({ measured }: FrontPoint) => Math.sqrt(measured.output);
  const x = logScale(
    shown.map(({ sizeBytes }) => sizeBytes),
    [PLOT.left, PLOT.right],
  );
  const y = logScale(shown.map(errorOf), [PLOT.bottom, PLOT.top]);
  const at = (point: FrontPoint) => [x.map(point.sizeBytes), y.map(errorOf(point))] as const;
  const mixed = shown.filter(({ kind }) => kind === 'mixed').sort((a, b) => a.sizeBytes - b.sizeBytes);
  const path = mixed.map((point, i) => {
    const [px, py] = at(point);
    return `${i ? 'L' : 'M'}${px.toFixed(1)} ${py.toFixed(1)}`;
  });
  const body = [
    ...y.ticks.map(
      (tick) =>
        line(PLOT.left, y.map(tick), PLOT.right, y.map(tick), 'grid') +
        text(PLOT.left - 8, y.map(tick) + 4, formatLoss(tick * tick), 'tick', 'end'),
    ),
    ...x.ticks.map(
      (tick) =>
        line(x.map(tick), PLOT.bottom, x.map(tick), PLOT.bottom + 5, 'axis') +
        text(x.map(tick), PLOT.bottom + 20, shorten(formatBytes(tick)), 'tick', 'middle'),
    ),
    line(PLOT.left, PLOT.bottom, PLOT.right, PLOT.bottom, 'axis'),
    text((PLOT.left + PLOT.right) / 2, PLOT.bottom + 44, 'size of the file', 'label', 'middle'),
    element('path', { d: path.join(''), class: 'front' }),
    ...shown.map((point) => {
      const [px, py] = at(point);
      const words = `${point.name}: ${formatBytes(point.sizeBytes)}, ${formatLoss(point.measured.output)}`;
      const kind = point.chosen ? 'chosen' : point.kind === 'mixed' ? 'meets' : 'misses';
      const name = point.kind === 'uniform' || point.chosen ? fit(point.name, 150) : '';
      return (
        element(
          'circle',
          { cx: px, cy: py, r: point.chosen ? 7 : 5, class: `point ${kind}` },
          tooltip(words),
        ) + (name ? text(px + 10, py - 6, name, point.chosen ? 'name is-chosen' : 'name') : '')
      );
    }),
  ].join('');
  const words = {
    title: 'Size against error',
    description: `${shown.length} ways of storing the weights. The table gives every number.`,
  };
  return image('precision-scatter', SIZE, words, body);
}
