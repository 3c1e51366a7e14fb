import { mechanism } from '../mechanism.ts';
import { attendRows, rowOptions } from '../rows.ts';

/** Lateral inhibition without a fixed number of winners: the nearest distribution to the scores, mostly zeros. */
export default mechanism({
  kind: 'sparsemax',
  summary: 'the distribution nearest to the scores: most weights exactly 0',
  family: 'biological',
  paper: {
    authors: 'Martins, Astudillo',
    title: 'From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label Classification',
    year: 2016,
    url: 'https://arxiv.org/abs/1602.02068',
  },
  options: rowOptions,
  needs: { training: 'required', calibration: false, boundedLength: false },
  growth: { time: 'n²', memory: 'n' },
  exact: false,
  lower: (context, options) => attendRows(context, { kind: 'sparsemax' }, options),
  examples: [{}, { window: 3 }],
  bench: { sparsemax: {} },
});
