import { mechanism } from '../mechanism.ts';
import { attendPairs, pairOptions, pairParts } from '../pairs.ts';
import { longformer } from '../pattern/patterns.ts';

/** A sliding window, and a few first tokens that see all and are seen by all. */
export default mechanism({
  kind: 'longformer',
  summary: 'sliding window, and first tokens that see all and are seen by all',
  family: 'softmax over pairs',
  paper: {
    authors: 'Beltagy, Peters, Cohan',
    title: 'Longformer: The Long-Document Transformer',
    year: 2020,
    url: 'https://arxiv.org/abs/2004.05150',
  },
  options: {
    window: {
      type: 'integer',
      least: 0,
      most: 10_000_000,
      default: 128,
      what: 'keys before and after the query',
    },
    globals: {
      type: 'integer',
      least: 0,
      most: 65_536,
      default: 1,
      what: 'first tokens that see all and are seen by all',
    },
    ...pairOptions,
  },
  needs: { training: 'recommended', calibration: false, boundedLength: false },
  growth: { time: 'n·(2·window + globals)', memory: 'n' },
  exact: true,
  ...pairParts,
  lower: (context, options) => attendPairs(context, longformer(options), options),
  examples: [
    { window: 3, globals: 1 },
    { window: 2, globals: 0 },
  ],
  bench: { longformer: { window: 128, globals: 1 } },
});
