import { planMemory } from '../../../program/memory.ts';
import type { Program } from '../../../program/program.ts';
import { type Bindings, evaluateDim } from '../../../tensor/dim.ts';
import type { Features } from '../kernels/kernel.ts';
import { trainingLowerings } from './lowerings.ts';

/** Exact bytes of activations that a step of a training Program takes, without an engine. */
export async function trainingPeak(
  program: Program,
  features: Features,
): Promise<(candidate: Program, bindings: Bindings) => number> {
  const lowerings = await trainingLowerings([program]);
  return (candidate, bindings) =>
    planMemory(candidate, bindings, {
      activation: { levels: 256, bytes: 1 },
      chunkRows: Number.MAX_SAFE_INTEGER,
      workspace: (node) =>
        lowerings
          .get(node.kind)!
          .workspaceBytes?.(node, (v) => v.shape.map((d) => evaluateDim(d, bindings)), features) ?? 0,
    }).peakBytes;
}
