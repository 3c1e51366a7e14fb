import { mechanism } from '../mechanism.ts';
import { attendPairs, pairOptions, pairParts } from '../pairs.ts';

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
  options: pairOptions,
  needs: { training: 'none', calibration: false, boundedLength: false },
  growth: { time: 'n²', memory: 'n' },
  exact: true,
  ...pairParts,
  lower: (context, options) => attendPairs(context, null, options),
  examples: [
    {},
    { softcap: 2 },
    { position: 'alibi' },
    { position: 'relative' },
    { position: 'rotary' },
    { precision: 'int8-scores' },
    { precision: 'int8' },
  ],
  bench: {
    dense: {},
    'dense-softcap': { softcap: 50 },
    'dense-alibi': { position: 'alibi' },
    'dense-relative': { position: 'relative' },
    'dense-rotary': { position: 'rotary' },
    'dense-int8-scores': { precision: 'int8-scores' },
    'dense-int8': { precision: 'int8' },
  },
});
