import { attention } from '../../program/ops/attention.ts';
import { padHead } from '../../program/ops/linear.ts';
import { mechanism } from '../mechanism.ts';
import { SYNTHESIZER_NEEDS, SYNTHESIZER_PAPER } from '../synthesizer.ts';

/** Scores that are weights of low rank, R1 R2ᵀ with R1, R2 `[H, Nmax, k]`: the same for every text. No queries, no keys. */
export default mechanism({
  kind: 'synthesizer-factorised',
  summary: 'scores that are two stored factors, the same for every text',
  family: 'stored',
  paper: SYNTHESIZER_PAPER,
  options: {
    rank: { type: 'integer', least: 1, most: 512, default: 32, what: 'columns of the two factors' },
  },
  needs: SYNTHESIZER_NEEDS,
  growth: { time: 'n²', memory: 'n' },
  exact: false,
  refuse: ({ maxLength }, { rank }) =>
    rank > maxLength
      ? `rank ${rank} is more than its longest text: expected at most ${maxLength}. Lower rank.`
      : null,
  lower(context, { rank }) {
    const { t, layer, lengths, project, parameter } = context;
    const { heads, headSize, maxLength } = layer;
    const factor = (name: string) => ({
      parameter: parameter(name, [heads, maxLength, padHead(rank)]),
      from: 0,
    });
    return attention(
      t,
      {
        queries: factor('storedQueries'),
        keys: factor('storedKeys'),
        values: { value: project(['value']), from: 0 },
        lengths,
      },
      { heads, headSize, keySize: rank, scale: 1 },
    )[0];
  },
  initialise: async (context, { rank }) =>
    (await import('../initialise/synthesizer.ts')).initialiseFactorised(context, rank),
  examples: [{ rank: 1 }, { rank: 12 }],
  bench: { 'synthesizer-factorised': {} },
});
