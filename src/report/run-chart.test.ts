import { expect, it } from 'vitest';
import { runChart, runChartFile } from './run-chart.ts';

const loss = [10, 20, 30].map((step) => ({ step, value: 1 / step }));

it('draws a run as a line with the scores as points, and says in words where it went', () => {
  const chart = runChart(loss, [
    { step: 15, value: 0.08 },
    { step: 30, value: 0.04 },
  ]);
  // One more stands in the legend.
  expect(chart.match(/<circle/g)).toHaveLength(3);
  expect(chart).toContain('texts held out');
  expect(chart.match(/points="([^"]*)"/)![1].split(' ')).toHaveLength(3);
  expect(chart).toContain('from 0.08 at step 15 to 0.04 at step 30');
  expect(runChart([], [])).toBe('');
});

it('stands alone as a file', () => {
  const file = runChartFile(loss, []);
  expect(file).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" /);
  expect(file).toContain('<style>');
});
