import { attention, stacked } from '../../program/ops/attention.ts';
import { mechanism, scaleOf } from '../mechanism.ts';

/** Every token sees every token: softmax(QKᵀ/√D)V, fused, with O(n·D) of scratch. */
export default mechanism({
  kind: 'dense',
  summary: 'every token sees every token',
  family: 'softmax over pairs',
  paper: {
    authors: 'Dao, Fu, Ermon, Rudra, Ré',
    title: 'FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness',
    year: 2022,
    url: 'https://arxiv.org/abs/2205.14135',
  },
  options: {},
  needs: { training: 'none', calibration: false, boundedLength: false },
  growth: { time: 'n²', memory: 'n' },
  exact: true,
  lower({ t, layer, lengths, project }) {
    const { heads, headSize } = layer;
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    return attention(t, { ...stacked(qkv, heads), lengths }, { heads, headSize, scale: scaleOf(layer) })[0];
  },
  examples: [{}],
  bench: { dense: {} },
});
