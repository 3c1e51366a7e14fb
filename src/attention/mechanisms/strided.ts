import { and, constant, ge, key, le, not, query, sub } from '../../program/mask/expression.ts';
import { type AttentionOptions, attention, stacked } from '../../program/ops/attention.ts';
import { mergeAttention } from '../../program/ops/merge-attention.ts';
import { groupByResidue, ungroupByResidue } from '../../program/ops/residue.ts';
import { mechanism, scaleOf } from '../mechanism.ts';
import { local } from '../pattern/window.ts';

/**
 * Every `stride`-th token both ways, and a window around the query. A stride inside a block of keys saves nothing
 * there, so sequences are taken apart by token number modulo `stride`: strided attention is dense attention inside
 * each part. The window is attention of its own; both are merged by the sums of their exponentials, and the strided
 * half leaves out what the window has: |k − q| ≤ w is ⌊w / stride⌋ steps.
 */
export default mechanism({
  kind: 'strided',
  summary: 'every stride-th token both ways, and a window',
  family: 'softmax over pairs',
  paper: {
    authors: 'Child, Gray, Radford, Sutskever',
    title: 'Generating Long Sequences with Sparse Transformers',
    year: 2019,
    url: 'https://arxiv.org/abs/1904.10509',
  },
  options: {
    stride: { type: 'integer', least: 1, most: 1024, default: 16, what: 'tokens from one key to the next' },
    window: {
      type: 'integer',
      least: -1,
      most: 10_000_000,
      default: 64,
      what: 'keys before and after the query that are seen as well; −1 for none',
    },
  },
  needs: { training: 'recommended', calibration: false, boundedLength: false },
  growth: { time: 'n²/stride + n·2·window', memory: 'n' },
  exact: true,
  lower({ t, layer, lengths, project }, { stride, window }) {
    const { heads, headSize } = layer;
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    const [classes, counts] = groupByResidue(t, qkv, lengths, stride); // [3H, B·s, ⌈N/s⌉, D′], [B·s]
    const options: AttentionOptions = { heads, headSize, scale: scaleOf(layer), statistics: window >= 0 };
    const steps = Math.floor(window / stride);
    const distance = sub(key, query);
    const near = and(ge(distance, constant(-steps)), le(distance, constant(steps)));
    const far = attention(
      t,
      { ...stacked(classes, heads), lengths: counts },
      { ...options, mask: window >= 0 ? not(near) : null },
    ).map((part) => ungroupByResidue(t, part, stride));
    if (window < 0) return far[0];
    const own = attention(
      t,
      { ...stacked(qkv, heads), lengths },
      { ...options, mask: local(window, window) },
    );
    return mergeAttention(t, [own[0], own[1]], [far[0], far[1]]);
  },
  examples: [
    { stride: 3, window: 2 },
    { stride: 4, window: -1 },
    { stride: 2, window: 5 },
  ],
  bench: { strided: { stride: 16, window: 64 } },
});
