import { stacked } from '../../program/ops/attention.ts';
import { dynamicAttention } from '../../program/ops/dynamic-attention.ts';
import { selectBlocks } from '../../program/ops/select-blocks.ts';
import { mechanism, scaleOf } from '../mechanism.ts';

const BLOCKS = { query: 64, key: 64 } as const;

/**
 * Chooses blocks of pairs while the model runs, for each head and text anew, by the means of their rows. Nothing is
 * learned and nothing is stored. At `mass` 1 every block is kept and the result is that of dense attention.
 */
export default mechanism({
  kind: 'dynamic',
  summary: 'keeps the blocks of pairs that their means predict to matter, chosen while it runs',
  family: 'softmax over pairs',
  paper: {
    authors: 'Zhang, Xiang, Huang, Wei, Xi, Zhu, Chen',
    title: 'SpargeAttention: Accurate and Training-free Sparse Attention Accelerating Any Model Inference',
    year: 2025,
    url: 'https://arxiv.org/abs/2502.18137',
  },
  options: {
    mass: {
      type: 'number',
      least: 0,
      most: 1,
      default: 0.9,
      what: 'share of the predicted attention that is kept',
    },
    topK: {
      type: 'integer',
      least: 0,
      most: 65_536,
      default: 0,
      what: 'blocks kept of each row of blocks instead; 0: by mass',
    },
    similarity: {
      type: 'number',
      least: -1,
      most: 1,
      default: 0.3,
      what: 'blocks whose rows agree less than this (mean cosine) are kept unpredicted',
    },
  },
  needs: { training: 'none', calibration: false, boundedLength: false },
  growth: { time: 'kept blocks + n²/4096', memory: 'n' },
  exact: false,
  lower({ t, layer, lengths, project }, { mass, topK, similarity }) {
    const { heads, headSize } = layer;
    const sources = { ...stacked(project(['query', 'key', 'value']), heads), lengths };
    const options = { heads, headSize, scale: scaleOf(layer), blocks: BLOCKS };
    const lists = selectBlocks(t, sources, { ...options, choice: { mass, topK, similarity } });
    return dynamicAttention(t, sources, lists, options);
  },
  examples: [{}, { mass: 1 }, { topK: 1, similarity: -1 }],
  bench: {
    'dynamic-mass90': {},
    'dynamic-mass90-predicted': { similarity: -1 },
    'dynamic-mass98': { mass: 0.98 },
  },
});
