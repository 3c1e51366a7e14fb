import { padHead } from '../../../src/program/ops/linear.ts';
import { spikingAttention } from '../../../src/program/ops/spiking-attention.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

function spikingCase(
  name: string,
  lengths: number[],
  { H = 2, D = 8, threshold = 0.7, n = 0 } = {},
): ConformanceCase {
  const [B, N, pitch] = [lengths.length, n || Math.max(1, ...lengths), padHead(D)];
  return {
    op: 'spikingAttention',
    name,
    finite: true,
    codes: false,
    build: (random) =>
      new CaseBuilder(random, { B, N })
        .data(
          'qkv',
          random.gaussians(3 * H * B * N * pitch).map((x, i) => (i % pitch < D ? x : 0)),
        )
        .data('lengths', Int32Array.from(lengths))
        .weight(
          'thresholds',
          'float32',
          [3 * H, pitch],
          random.gaussians(3 * H * pitch, 0.2).map((x, i) => (i % pitch < D ? x + threshold : 1e30)),
        )
        .weight('readout', 'float32', [2 * H, pitch], random.gaussians(2 * H * pitch))
        .finish((t, input) =>
          spikingAttention(
            t,
            input('qkv', [3 * H, symbol('B'), symbol('N'), pitch]),
            input('lengths', [symbol('B')]),
            { thresholds: t.parameter('thresholds'), readout: t.parameter('readout') },
            { heads: H, headSize: D },
          ),
        ),
  };
}

export const spikingAttentionCases: ConformanceCase[] = [
  spikingCase('ordinary', [40, 33, 32, 31, 1, 0]),
  spikingCase('one token', [1]),
  spikingCase('heads of 20', [70], { D: 20, H: 3 }),
  spikingCase('heads of 32', [129, 64], { D: 32 }),
  spikingCase('heads of 64', [50], { D: 64, H: 1 }),
  spikingCase('no spikes at all', [20], { threshold: 100 }),
  spikingCase('everything spikes', [45], { threshold: -100 }),
  spikingCase('rows beyond every length', [5, 9], { n: 40 }),
];
