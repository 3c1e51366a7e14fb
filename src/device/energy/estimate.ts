import type { Figure } from '../figure.ts';

/** What one run computes and moves, by arithmetic. */
export interface EnergyWork {
  readonly float32MultiplyAdds: number;
  readonly int8MultiplyAdds: number;
  /** Weights, each read once per run. */
  readonly weightBytes: number;
  /** Activations read and written. */
  readonly activationBytes: number;
}

/**
 * Picojoules per operation at 45 nm and 0.9 V, from M. Horowitz, “Computing's energy problem (and what we can do
 * about it)”, ISSCC 2014. Memory is per access of 64 bits.
 */
export const HOROWITZ_PJ = {
  int8: { add: 0.03, multiply: 0.2 },
  int32: { add: 0.1 },
  float32: { add: 0.9, multiply: 3.7 },
  sram8KB: 10,
  sram1MB: 100,
  dramLow: 1300,
  dramHigh: 2600,
} as const;

/**
 * Energy of one run, estimated: arithmetic plus memory. The value takes weights from DRAM (mean of Horowitz's
 * range) and activations from a 1 MB cache; the range goes from everything in near memory (weights 1 MB,
 * activations 8 KB) to every byte from DRAM at its dearest. Instruction overhead and idle power are left out, so
 * it compares candidates and says little about a battery.
 */
export function estimateEnergy(work: EnergyWork): Figure {
  const pj = HOROWITZ_PJ;
  const arithmetic =
    work.float32MultiplyAdds * (pj.float32.multiply + pj.float32.add) +
    work.int8MultiplyAdds * (pj.int8.multiply + pj.int32.add);
  const total = (weightPj: number, activationPj: number) =>
    (arithmetic + (work.weightBytes * weightPj + work.activationBytes * activationPj) / 8) * 1e-9;
  return {
    value: total((pj.dramLow + pj.dramHigh) / 2, pj.sram1MB),
    unit: 'mJ',
    provenance: 'estimated',
    model:
      'Horowitz 2014, 45 nm; weights from DRAM once a run, activations from a 1 MB cache; no instruction or idle power',
    range: [total(pj.sram1MB, pj.sram8KB), total(pj.dramHigh, pj.dramHigh)],
  };
}
