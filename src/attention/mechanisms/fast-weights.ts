import { stacked } from '../../program/ops/attention.ts';
import { type FastWeightFeature, fastWeights } from '../../program/ops/fast-weights.ts';
import { mechanism } from '../mechanism.ts';

/** An associative memory that tokens write by the delta rule and read: Hebbian learning within one text. */
export default mechanism({
  kind: 'fast-weights',
  summary: 'a memory that tokens write by the delta rule, O(n)',
  family: 'biological',
  paper: {
    authors: 'Schlag, Irie, Schmidhuber',
    title: 'Linear Transformers Are Secretly Fast Weight Programmers',
    year: 2021,
    url: 'https://arxiv.org/abs/2102.11174',
  },
  options: {
    feature: {
      type: 'choice',
      choices: ['elu', 'relu'],
      default: 'elu',
      what: 'features of keys and queries before their norm is made 1',
    },
    beta: {
      type: 'number',
      least: 0,
      most: 1,
      default: 0.5,
      what: 'how much of a memory is replaced: 1 all',
    },
    causal: {
      type: 'boolean',
      default: false,
      what: 'a token reads what tokens up to it wrote, not what all wrote',
    },
  },
  needs: { training: 'required', calibration: false, boundedLength: false },
  growth: { time: 'n·D', memory: 'n' },
  exact: false,
  lower({ t, layer: { heads, headSize }, lengths, project }, { feature, beta, causal }) {
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    const options = { heads, headSize, feature: feature as FastWeightFeature, beta, causal };
    return fastWeights(t, { ...stacked(qkv, heads), lengths }, options);
  },
  examples: [{}, { feature: 'relu', beta: 1, causal: true }],
  bench: { 'fast-weights': {} },
});
