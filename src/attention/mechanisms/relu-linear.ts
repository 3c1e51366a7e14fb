import { stacked } from '../../program/ops/attention.ts';
import { linearAttention } from '../../program/ops/linear-attention.ts';
import { mechanism } from '../mechanism.ts';

/** Attention weights max(q, 0)·max(k, 0), normalised: no exponential and no weights of its own. */
export default mechanism({
  kind: 'relu-linear',
  summary: 'rectified queries and keys in place of softmax, O(n)',
  family: 'linear',
  paper: {
    authors: 'Cai, Li, Hu, Gan, Han',
    title: 'EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction',
    year: 2023,
    url: 'https://arxiv.org/abs/2205.14756',
  },
  options: {},
  needs: { training: 'required', calibration: false, boundedLength: false },
  growth: { time: 'n·D', memory: 'n' },
  exact: false,
  lower({ t, layer: { heads, headSize }, lengths, project }) {
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    return linearAttention(
      t,
      { ...stacked(qkv, heads), lengths },
      { heads, headSize, map: { kind: 'relu' } },
    );
  },
  examples: [{}],
  bench: { 'relu-linear': {} },
});
