import type { Schedule } from './schedule.ts';

/** How weights are updated: AdamW (Loshchilov and Hutter 2019, algorithm 2) under a schedule. */
export interface UpdateOptions {
  readonly schedule: Schedule;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Largest norm of the gradient over all weights; a larger one is scaled down. Null: no clipping. */
  readonly maxNorm: number | null;
  /** The first group whose `matches` holds is a weight's own. */
  readonly groups: readonly ParameterGroup[];
}

export interface ParameterGroup {
  readonly matches: (name: string) => boolean;
  /** Times the schedule's rate. */
  readonly rate: number;
  readonly weightDecay: number;
}

/** Matrices and tables decay, norms and biases do not (Devlin et al. 2019, appendix A.2). */
export const defaultGroups = (weightDecay: number): readonly ParameterGroup[] => [
  { matches: (name) => name.endsWith('.bias') || name.endsWith('.scale'), rate: 1, weightDecay: 0 },
  { matches: () => true, rate: 1, weightDecay },
];
