import { mechanism } from '../mechanism.ts';
import { attendRows, rowOptions } from '../rows.ts';

/** Lateral inhibition: the `k` strongest keys of each query silence all others, whose values are never read. */
export default mechanism({
  kind: 'k-winners',
  summary: 'lateral inhibition: the k strongest keys of each query silence the others',
  family: 'biological',
  paper: {
    authors: 'Gupta, Dar, Goodman, Ciprut, Berant',
    title: 'Memory-efficient Transformers via Top-k Attention',
    year: 2021,
    url: 'https://arxiv.org/abs/2106.06899',
  },
  options: {
    k: { type: 'integer', least: 1, most: 10_000_000, default: 32, what: 'keys that each query keeps' },
    ...rowOptions,
  },
  needs: { training: 'none', calibration: false, boundedLength: false },
  growth: { time: 'n²', memory: 'n' },
  exact: false,
  lower: (context, { k, window }) => attendRows(context, { kind: 'topK', k }, { window }),
  examples: [{ k: 4 }, { k: 2, window: 3 }],
  bench: { 'k-winners': { k: 32 } },
});
