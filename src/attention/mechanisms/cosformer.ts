import { stacked } from '../../program/ops/attention.ts';
import { linearAttention } from '../../program/ops/linear-attention.ts';
import { mechanism } from '../mechanism.ts';

/** Rectified queries and keys whose weight falls with the cosine of their distance over the model's longest sequence. */
export default mechanism({
  kind: 'cosformer',
  summary: 'rectified features, weighed by the cosine of the distance, O(n)',
  family: 'linear',
  paper: {
    authors: 'Qin, Sun, Deng, Li, Wei, Lv, Yan, Kong, Zhong',
    title: 'cosFormer: Rethinking Softmax in Attention',
    year: 2022,
    url: 'https://arxiv.org/abs/2202.08791',
  },
  options: {},
  needs: { training: 'required', calibration: false, boundedLength: true },
  growth: { time: 'n·D', memory: 'n' },
  exact: false,
  lower({ t, layer: { heads, headSize, maxLength }, lengths, project }) {
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    const map = { kind: 'cosformer', maxLength } as const;
    return linearAttention(t, { ...stacked(qkv, heads), lengths }, { heads, headSize, map });
  },
  examples: [{}],
  bench: { cosformer: {} },
});
