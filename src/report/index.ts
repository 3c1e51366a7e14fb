export { type CardFiles, writeCard } from './card.ts';
export { latencyChart, memoryChart, sizeMetricChart } from './charts.ts';
export { cardHtml } from './html.ts';
export { cardMarkdown } from './markdown.ts';
export { type RunPoint, runChart, runChartFile } from './run-chart.ts';
export { formatBytes, formatFigure, formatMs, formatScore, provenanceOf, significant } from './units.ts';
export { budgetText, verdictText } from './verdict.ts';
