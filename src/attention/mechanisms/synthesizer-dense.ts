import { attention } from '../../program/ops/attention.ts';
import { linear, padHead } from '../../program/ops/linear.ts';
import { mechanism } from '../mechanism.ts';
import { SYNTHESIZER_NEEDS, SYNTHESIZER_PAPER } from '../synthesizer.ts';

/** Scores that each token predicts by itself: ReLU(x W1 + b1) W2, one column for each position. No keys. */
export default mechanism({
  kind: 'synthesizer-dense',
  summary: 'scores that each token predicts by itself, without looking at the others',
  family: 'stored',
  paper: SYNTHESIZER_PAPER,
  options: {},
  needs: SYNTHESIZER_NEEDS,
  growth: { time: 'n²', memory: 'n' },
  exact: false,
  lower(context) {
    const { t, layer, x, lengths, project, parameter } = context;
    const { heads, headSize, inputSize, maxLength } = layer;
    const inner = heads * headSize;
    const hidden = linear(
      t,
      x,
      [parameter('hidden.weight', [inner, inputSize])],
      [parameter('hidden.bias', [inner])],
      { heads: { size: headSize }, activation: 'relu' },
    ); // [H, B, N, D′]
    const keys = parameter('storedKeys', [heads, maxLength, padHead(headSize)]);
    return attention(
      t,
      {
        queries: { value: hidden, from: 0 },
        keys: { parameter: keys, from: 0 },
        values: { value: project(['value']), from: 0 },
        lengths,
      },
      { heads, headSize, scale: 1 },
    )[0];
  },
  initialise: async (context) =>
    (await import('../initialise/synthesizer-dense.ts')).initialiseDense(context),
  examples: [{}],
  bench: { 'synthesizer-dense': {} },
});
