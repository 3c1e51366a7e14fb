import { type MemoryLayout, planMemory } from '../../program/memory.ts';
import type { Program, Value } from '../../program/program.ts';
import { type Bindings, evaluateDim } from '../../tensor/dim.ts';
import { RAGGED_TILE } from './kernels/gemm-tile.ts';
import type { Features } from './kernels/kernel.ts';
import { type Lowerings, lower } from './lower.ts';
import type { Step } from './lowering.ts';
import { type KernelModule, STEP_WORDS } from './module.ts';
import type { WeightMap } from './weights.ts';

/** A Program made ready for one (B, N): everything that a run needs, computed once. */
export interface Plan {
  readonly bindings: Bindings;
  readonly layout: MemoryLayout;
  /** Steps, tables and descriptors, as they stand at the arena's start. */
  readonly image: Int32Array;
  readonly steps: readonly Step[];
  /** Address of the first activation. */
  readonly base: number;
  readonly scratch: number;
  readonly scratchBytes: number;
  /** One past the last byte that a run touches. */
  readonly end: number;
}

export interface PlanContext {
  readonly program: Program;
  readonly lowerings: Lowerings;
  readonly features: Features;
  readonly threads: number;
  readonly kernels: KernelModule['kernels'];
  readonly weights: WeightMap;
  /** Where the arena begins. */
  readonly arena: number;
  readonly chunkRows: number;
}

/** Rows beyond which row-wise ops run in chunks, so that no tensor of n × 4C exists for a long text. */
export const CHUNK_ROWS = 512;
const align = (n: number): number => (n + 63) & ~63;

export function makePlan(context: PlanContext, bindings: Bindings): Plan {
  const { program, lowerings, features, arena, kernels, threads, weights } = context;
  const { chunkRows } = context;
  const shape = (value: Value) => value.shape.map((d) => evaluateDim(d, bindings));
  const layout = planMemory(program, bindings, {
    activation: { levels: features.dot === 'u7' ? 128 : 256, bytes: features.dot === 'i16' ? 2 : 1 },
    chunkRows,
    workspace: (node) => lowerings.get(node.kind)!.workspaceBytes?.(node, shape, features) ?? 0,
  });
  const fieldCount = (key: string) => Object.keys(kernels.get(key)!.fields).length;
  // Order of the image: steps, tables, descriptors. A dry pass tells their sizes, and so the addresses.
  const tables = new Map<string, { at: number; data: Int32Array }>();
  const dry = lowerAll(0);
  let end = arena + dry.length * STEP_WORDS * 4;
  for (const table of tables.values()) {
    table.at = end;
    end += table.data.byteLength;
  }
  const descriptors = end;
  const imageBytes = descriptors - arena + dry.reduce((n, s) => n + fieldCount(s.key) * 4, 0);
  const base = align(arena + imageBytes);
  const steps = lowerAll(base);
  const image = writeImage();
  const scratch = align(base + layout.peakBytes);
  const scratchBytes = align(scratchFor(program, lowerings, shape, features));
  return {
    bindings,
    layout,
    image,
    steps,
    base,
    scratch,
    scratchBytes,
    end: scratch + threads * scratchBytes,
  };

  function lowerAll(from: number): Step[] {
    const table = (key: string, make: () => Int32Array): number => {
      let known = tables.get(key);
      if (!known) {
        known = { at: 0, data: make() };
        tables.set(key, known);
      }
      return known.at;
    };
    return layout.schedule.flatMap((s) =>
      lower(s, { lowerings, layout, base: from, weights, features, threads, table }),
    );
  }

  function writeImage(): Int32Array {
    const out = new Int32Array(imageBytes / 4);
    const floats = new Float32Array(out.buffer);
    for (const { at: where, data } of tables.values()) out.set(data, (where - arena) / 4);
    let word = (descriptors - arena) / 4;
    steps.forEach((step, i) => {
      const { index, fields } = kernels.get(step.key)!;
      out.set([index, arena + word * 4, step.units, step.chunk, 0, 0], i * STEP_WORDS);
      for (const [name, type] of Object.entries(fields)) {
        if (type === 'f32') floats[word++] = step.fields[name];
        else out[word++] = step.fields[name];
      }
    });
    return out;
  }
}

/** The largest scratch that any kernel asks for, a thread. */
function scratchFor(
  program: Program,
  lowerings: Lowerings,
  shape: (value: Value) => readonly number[],
  features: Features,
): number {
  return program.nodes.reduce(
    (most, node) => Math.max(most, lowerings.get(node.kind)!.scratchBytes?.(node, shape, features) ?? 0),
    RAGGED_TILE,
  );
}
