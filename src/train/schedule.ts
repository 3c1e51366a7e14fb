/** How the learning rate runs over the steps of a training. */
export interface Schedule {
  readonly peak: number;
  readonly steps: number;
  /** Steps over which it rises from 0 to the peak, evenly. */
  readonly warmup: number;
  readonly decay: 'linear' | 'cosine' | 'none';
  /** What it ends at, as a share of the peak. */
  readonly floor: number;
}

/** The learning rate of step 0, 1, … (Devlin et al. 2019, appendix A.2; Loshchilov and Hutter 2017, equation 5). */
export function learningRate({ peak, steps, warmup, decay, floor }: Schedule, step: number): number {
  if (step < warmup) return (peak * (step + 1)) / warmup;
  if (decay === 'none') return peak;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  const share = decay === 'linear' ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
  return peak * (floor + (1 - floor) * share);
}
