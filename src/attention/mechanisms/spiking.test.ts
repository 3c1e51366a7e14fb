import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import { initialiseSpiking, spikeRates } from '../initialise/spiking.ts';
import type { Calibration, InitialiseContext, LayerSample } from '../mechanism.ts';

const [H, D, n] = [2, 12, 60];
const layer = { index: 0, inputSize: H * D, heads: H, headSize: D, maxLength: 100 };

function samples(seed: number, count: number): LayerSample[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => {
    const part = () => ({ shape: [H, n, D], data: random.gaussians(H * n * D) });
    return {
      n,
      x: { shape: [n, H * D], data: new Float32Array(n * H * D) },
      queries: part(),
      keys: part(),
      values: part(),
    };
  });
}

const contextOf = (list: LayerSample[]): InitialiseContext => ({
  layer,
  weight: async () => ({ shape: [], data: new Float32Array() }),
  calibration: {
    async *layer() {
      yield* list;
    },
  } satisfies Calibration,
});

describe('spiking', () => {
  it.each([0.05, 0.2, 0.5])('spikes at the rate asked for, here and on unseen text: %f', async (rate) => {
    const list = samples(1, 8);
    const thresholds = (await initialiseSpiking(contextOf(list), rate)).get('thresholds')!;
    for (const [sample, tolerance] of [
      [list[0], 0.06],
      [samples(2, 1)[0], 0.06],
    ] as const)
      for (const got of Object.values(spikeRates(sample, thresholds)))
        expect(Math.abs(got - rate)).toBeLessThan(tolerance);
    const all = list.map((sample) => spikeRates(sample, thresholds).keys);
    expect(all.reduce((a, b) => a + b) / all.length).toBeCloseTo(rate, 2);
  });

  it('reads out no worse than the mean of what dense attention gives', async () => {
    const list = samples(3, 6);
    const made = await initialiseSpiking(contextOf(list), 0.3);
    const readout = made.get('readout')!;
    expect(readout.shape).toEqual([2 * H, 16]);
    expect(readout.data.every(Number.isFinite)).toBe(true);
    // Columns that pad a head read out nothing, and never spike.
    expect(readout.data[D]).toBe(0);
    expect(made.get('thresholds')!.data[D]).toBeGreaterThan(1e29);
  });
});
