import { mechanism } from '../mechanism.ts';
import { attendPairs, pairOptions, pairParts } from '../pairs.ts';
import { causal } from '../pattern/patterns.ts';

/** Each token sees itself and what came before it. */
export default mechanism({
  kind: 'causal',
  summary: 'each token sees itself and what came before',
  family: 'softmax over pairs',
  paper: {
    authors: 'Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin',
    title: 'Attention Is All You Need',
    year: 2017,
    url: 'https://arxiv.org/abs/1706.03762',
  },
  options: pairOptions,
  needs: { training: 'required', calibration: false, boundedLength: false },
  growth: { time: 'n²/2', memory: 'n' },
  exact: true,
  ...pairParts,
  lower: (context, options) => attendPairs(context, causal(), options),
  examples: [{}],
  bench: { causal: {} },
});
