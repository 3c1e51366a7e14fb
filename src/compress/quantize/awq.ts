import { centred } from './smooth.ts';
import type { InputStatistics } from './statistics.ts';

/**
 * Scales of AWQ: `mean|X|^r` of each column, so that weights that meet large inputs are rounded finely (Lin et al.
 * 2024, arXiv:2306.00978, section 3.2). A column that is never fed is scaled as the least that is.
 */
export function awqScale({ meanMagnitude }: InputStatistics, ratio: number): Float32Array {
  const fed = meanMagnitude.filter((x) => x > 0);
  if (fed.length === 0) return new Float32Array(meanMagnitude.length).fill(1);
  const least = fed.reduce((a, b) => Math.min(a, b));
  // Bounded, so that no column of weights vanishes beside another.
  return centred(meanMagnitude.map((x) => Math.max(x, least, 1e-4) ** ratio));
}
