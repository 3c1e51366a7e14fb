import { padHead } from '../../program/ops/linear.ts';
import { spikingAttention } from '../../program/ops/spiking-attention.ts';
import { mechanism } from '../mechanism.ts';

/**
 * Queries, keys and values as bits: a key weighs as many channels as it shares with the query, and no exponential is
 * taken. Linear in the length, because what spikes together is counted once for all queries. It pays where spikes
 * are rare: the rate is chosen here, and the op reports how many there were.
 */
export default mechanism({
  kind: 'spiking',
  summary: 'queries, keys and values as bits; a key weighs the channels that it shares with the query',
  family: 'biological',
  paper: {
    authors: 'Zhou, Zhu, He, Wang, Yan, Tian, Yuan',
    title: 'Spikformer: When Spiking Neural Network Meets Transformer',
    year: 2023,
    url: 'https://arxiv.org/abs/2209.15425',
  },
  options: {
    rate: {
      type: 'number',
      least: 0.001,
      most: 0.9,
      default: 0.2,
      what: 'share of tokens at which a channel spikes',
    },
  },
  needs: { training: 'required', calibration: true, boundedLength: false },
  growth: { time: 'n', memory: 'n' },
  exact: false,
  lower({ t, layer, lengths, project, parameter }) {
    const { heads, headSize } = layer;
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    const parameters = {
      thresholds: parameter('thresholds', [3 * heads, padHead(headSize)]),
      readout: parameter('readout', [2 * heads, padHead(headSize)]),
    };
    return spikingAttention(t, qkv, lengths, parameters, { heads, headSize })[0];
  },
  initialise: async (context, { rate }) =>
    (await import('../initialise/spiking.ts')).initialiseSpiking(context, rate),
  examples: [{}, { rate: 0.5 }],
  bench: { spiking: {} },
});
