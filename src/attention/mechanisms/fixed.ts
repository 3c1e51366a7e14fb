import { mechanism } from '../mechanism.ts';
import { attendPairs, pairOptions, pairParts } from '../pairs.ts';
import { fixed } from '../pattern/patterns.ts';

/**
 * The query's own run of tokens, and the last few tokens of every run, which learn to sum it up. A summary narrower
 * than a block of keys (64) costs as much as the whole block.
 */
export default mechanism({
  kind: 'fixed',
  summary: "the query's own run of tokens and the last few of every run",
  family: 'softmax over pairs',
  paper: {
    authors: 'Child, Gray, Radford, Sutskever',
    title: 'Generating Long Sequences with Sparse Transformers',
    year: 2019,
    url: 'https://arxiv.org/abs/1904.10509',
  },
  options: {
    block: { type: 'integer', least: 1, most: 65_536, default: 512, what: 'tokens of a run' },
    summary: {
      type: 'integer',
      least: 0,
      most: 65_536,
      default: 64,
      what: 'tokens at the end of each run that all see',
    },
    ...pairOptions,
  },
  needs: { training: 'required', calibration: false, boundedLength: false },
  growth: { time: 'n²·summary/block + n·block', memory: 'n' },
  exact: true,
  ...pairParts,
  refuse: (layer, { block, summary, ...options }) =>
    summary <= block
      ? pairParts.refuse(layer, options)
      : `expected summary at most block (${block}), got ${summary}. Use a larger block.`,
  lower: (context, options) => attendPairs(context, fixed(options.block, options.summary), options),
  examples: [{ block: 8, summary: 2 }],
  bench: { fixed: { block: 512, summary: 64 } },
});
