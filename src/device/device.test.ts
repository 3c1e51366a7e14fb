import { describe, expect, it } from 'vitest';
import { estimateEnergy } from './energy/estimate.ts';
import { machineProfile } from './profile.ts';

describe('estimateEnergy', () => {
  const none = { float32MultiplyAdds: 0, int8MultiplyAdds: 0, weightBytes: 0, activationBytes: 0 };

  it('adds arithmetic and memory in millijoules', () => {
    expect(estimateEnergy({ ...none, float32MultiplyAdds: 1e9 }).value).toBeCloseTo(4.6, 9);
    expect(estimateEnergy({ ...none, int8MultiplyAdds: 1e9 }).value).toBeCloseTo(0.3, 9);
    expect(estimateEnergy({ ...none, weightBytes: 8e6 }).value).toBeCloseTo(1.95, 9);
    expect(estimateEnergy({ ...none, activationBytes: 8e6 }).value).toBeCloseTo(0.1, 9);
  });

  it('is an estimate with its model named and a range round the value', () => {
    const figure = estimateEnergy({
      float32MultiplyAdds: 1e6,
      int8MultiplyAdds: 1e7,
      weightBytes: 1e6,
      activationBytes: 1e5,
    });
    if (figure.provenance !== 'estimated') throw new Error('not estimated');
    expect(figure.model).toMatch(/Horowitz 2014, 45 nm/);
    expect(figure.range[0]).toBeLessThan(figure.value);
    expect(figure.range[1]).toBeGreaterThan(figure.value);
  });
});

it('describes this machine', () => {
  const machine = machineProfile();
  expect(machine.cores).toBeGreaterThan(0);
  expect(machine.memoryBytes).toBeGreaterThan(2 ** 20);
  expect(machine.engine).toContain(process.versions.node);
});
