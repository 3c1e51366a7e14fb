import { mechanism } from '../mechanism.ts';
import { attendPairs, pairOptions, pairParts } from '../pairs.ts';
import { local } from '../pattern/window.ts';

/** Any pattern: the pairs that an expression of query, key and head keeps. */
export default mechanism({
  kind: 'masked',
  summary: 'any pattern, written as an expression of query, key and head',
  family: 'softmax over pairs',
  paper: {
    authors: 'Dong, Feng, Guessous, Liang, He',
    title: 'Flex Attention: A Programming Model for Generating Optimized Attention Kernels',
    year: 2024,
    url: 'https://arxiv.org/abs/2412.05496',
  },
  options: {
    mask: { type: 'mask', what: 'the expression as JSON' },
    ...pairOptions,
  },
  needs: { training: 'recommended', calibration: false, boundedLength: false },
  growth: { time: 'kept blocks', memory: 'n' },
  exact: true,
  ...pairParts,
  lower: (context, options) => attendPairs(context, options.mask, options),
  examples: [{ mask: local(2, 2) }],
  bench: {},
});
