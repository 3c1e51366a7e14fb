import { mechanism } from '../mechanism.ts';
import { attendRows, rowOptions } from '../rows.ts';

/** Between softmax and sparsemax (α = 1.5): small weights become exactly 0, large ones stay smooth. */
export default mechanism({
  kind: 'entmax',
  summary: 'between softmax and sparsemax (α = 1.5): small weights exactly 0',
  family: 'biological',
  paper: {
    authors: 'Peters, Niculae, Martins',
    title: 'Sparse Sequence-to-Sequence Models',
    year: 2019,
    url: 'https://arxiv.org/abs/1905.05702',
  },
  options: rowOptions,
  needs: { training: 'required', calibration: false, boundedLength: false },
  growth: { time: 'n²', memory: 'n' },
  exact: false,
  lower: (context, options) => attendRows(context, { kind: 'entmax15' }, options),
  examples: [{}, { window: 3 }],
  bench: { entmax: {} },
});
