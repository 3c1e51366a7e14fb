import { attention, stacked } from '../../program/ops/attention.ts';
import { mechanism, scaleOf } from '../mechanism.ts';
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
  },
  needs: { training: 'recommended', calibration: false, boundedLength: false },
  growth: { time: 'n·(left + right)', memory: 'n' },
  exact: true,
  lower({ t, layer, lengths, project }, { left, right }) {
    const { heads, headSize } = layer;
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    return attention(
      t,
      { ...stacked(qkv, heads), lengths },
      { heads, headSize, scale: scaleOf(layer), mask: local(left, right) },
    )[0];
  },
  examples: [
    { left: 3, right: 5 },
    { left: 0, right: 0 },
  ],
  bench: { local: { left: 128, right: 128 } },
});
