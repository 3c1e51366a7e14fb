import { mechanism } from '../mechanism.ts';
import { attendPairs, pairOptions, pairParts } from '../pairs.ts';
import { bigBird } from '../pattern/patterns.ts';

/** A sliding window, a few global tokens, and random blocks that let news travel in few layers. */
export default mechanism({
  kind: 'bigbird',
  summary: 'sliding window, global first tokens, and random blocks',
  family: 'softmax over pairs',
  paper: {
    authors: 'Zaheer, Guruganesh, Dubey, Ainslie, Alberti, Ontanon, Pham, Ravula, Wang, Yang, Ahmed',
    title: 'Big Bird: Transformers for Longer Sequences',
    year: 2020,
    url: 'https://arxiv.org/abs/2007.14062',
  },
  options: {
    window: {
      type: 'integer',
      least: 0,
      most: 10_000_000,
      default: 96,
      what: 'keys before and after the query',
    },
    globals: {
      type: 'integer',
      least: 0,
      most: 65_536,
      default: 64,
      what: 'first tokens that see all and are seen by all',
    },
    random: {
      type: 'integer',
      least: 0,
      most: 64,
      default: 3,
      what: 'random blocks that each block of queries sees, in mean',
    },
    block: { type: 'integer', least: 1, most: 65_536, default: 64, what: 'tokens of a random block' },
    seed: { type: 'integer', least: 0, most: 2 ** 31 - 1, default: 0, what: 'which random blocks' },
    ...pairOptions,
  },
  needs: { training: 'recommended', calibration: false, boundedLength: false },
  growth: { time: 'n·(2·window + globals + random·block)', memory: 'n' },
  exact: true,
  ...pairParts,
  lower: (context, options) => attendPairs(context, bigBird(options), options),
  examples: [{ window: 2, globals: 1, random: 2, block: 4, seed: 5 }],
  bench: { bigbird: {} },
});
