import { mechanism } from '../mechanism.ts';
import { attendPairs, pairOptions, pairParts } from '../pairs.ts';
import { local } from '../pattern/window.ts';

const MOST = 10_000_000;

/** A sliding window: each query sees the keys from `left` before it to `right` after it. */
export default mechanism({
  kind: 'local',
  summary: 'sliding window: keys from q − left to q + right',
  family: 'softmax over pairs',
  paper: {
    authors: 'Beltagy, Peters, Cohan',
    title: 'Longformer: The Long-Document Transformer',
    year: 2020,
    url: 'https://arxiv.org/abs/2004.05150',
  },
  options: {
    left: { type: 'integer', least: 0, most: MOST, what: 'keys before the query' },
    right: { type: 'integer', least: 0, most: MOST, what: 'keys after the query' },
    ...pairOptions,
  },
  needs: { training: 'recommended', calibration: false, boundedLength: false },
  growth: { time: 'n·(left + right)', memory: 'n' },
  exact: true,
  ...pairParts,
  lower: (context, options) => attendPairs(context, local(options.left, options.right), options),
  examples: [
    { left: 3, right: 5 },
    { left: 0, right: 0 },
  ],
  bench: {
    local: { left: 128, right: 128 },
    'local-int8': { left: 128, right: 128, precision: 'int8' },
  },
});
