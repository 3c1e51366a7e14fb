import { mechanism } from '../mechanism.ts';
import { attendPairs, pairOptions, pairParts } from '../pairs.ts';
import { randomDensity } from '../pattern/patterns.ts';

/** Whole blocks of pairs, drawn once by a seed; time is that of the blocks kept. A list of one's own: `masked`. */
export default mechanism({
  kind: 'block-sparse',
  summary: 'whole blocks of pairs, drawn by a seed at a density',
  family: 'softmax over pairs',
  paper: {
    authors: 'Child, Gray, Radford, Sutskever',
    title: 'Generating Long Sequences with Sparse Transformers',
    year: 2019,
    url: 'https://arxiv.org/abs/1904.10509',
  },
  options: {
    density: {
      type: 'number',
      least: 0,
      most: 1,
      default: 0.25,
      what: 'share of the blocks kept, beside the diagonal',
    },
    block: { type: 'integer', least: 1, most: 65_536, default: 64, what: 'tokens of a block' },
    seed: { type: 'integer', least: 0, most: 2 ** 31 - 1, default: 0, what: 'which blocks' },
    ...pairOptions,
  },
  needs: { training: 'required', calibration: false, boundedLength: false },
  growth: { time: 'density·n²', memory: 'n' },
  exact: true,
  ...pairParts,
  lower: (context, options) => attendPairs(context, randomDensity(options), options),
  examples: [{ density: 0.4, block: 4, seed: 2 }],
  bench: {
    'block-sparse-25': { density: 0.25 },
    'block-sparse-5': { density: 0.05 },
    'block-sparse-10': { density: 0.1 },
    'block-sparse-50': { density: 0.5 },
    'block-sparse-100': { density: 1 },
  },
});
