import { type MemoryLayout, planMemory } from '../../program/memory.ts';
import type { AttentionNode } from '../../program/ops/attention.ts';
import { padHead } from '../../program/ops/linear.ts';
import type { Program } from '../../program/program.ts';
import type { Bindings } from '../../tensor/dim.ts';
import { attentionScratch } from './kernels/attention.ts';
import type { Features } from './kernels/kernel.ts';
import { blockMaskOf, lower, type PlacedMask, type Step } from './lower.ts';
import { type KernelModule, STEP_WORDS } from './module.ts';
import type { WeightMap } from './weights.ts';

/** A Program made ready for one (B, N): everything that a run needs, computed once. */
export interface Plan {
  readonly bindings: Bindings;
  readonly layout: MemoryLayout;
  /** Steps, descriptors and mask tables, as they stand at the arena's start. */
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
  readonly features: Features;
  readonly threads: number;
  readonly kernels: KernelModule['kernels'];
  readonly weights: WeightMap;
  /** Where the arena begins. */
  readonly arena: number;
}

/** Rows beyond which row-wise ops run in chunks, so that no tensor of n × 4C exists for a long text. */
export const CHUNK_ROWS = 512;
const align = (n: number): number => (n + 63) & ~63;

export function makePlan(context: PlanContext, bindings: Bindings): Plan {
  const { program, features, arena, kernels, threads, weights } = context;
  const layout = planMemory(program, bindings, {
    activation: { levels: features.dot === 'u7' ? 128 : 256, bytes: features.dot === 'i16' ? 2 : 1 },
    chunkRows: CHUNK_ROWS,
  });
  const { schedule } = layout;
  const fieldCount = (key: string) => Object.keys(kernels.get(key)!.fields).length;
  const masks = placeMasks(program, bindings);
  // Order of the image: steps, mask tables, descriptors. Only sizes are needed to know the addresses.
  let at = arena + schedule.length * STEP_WORDS * 4;
  const placed = new Map<string, PlacedMask>();
  const tables: { at: number; data: Int32Array }[] = [];
  for (const [key, mask] of masks) {
    const [starts, ends, entries, tiles] = [mask.starts, mask.ends, mask.entries, mask.tiles].map((data) => {
      const here = at;
      tables.push({ at: here, data });
      at += data.byteLength;
      return here;
    });
    placed.set(key, { mask, starts, ends, entries, tiles });
  }
  const descriptors = at;
  const dry = lowerAll(0);
  const imageBytes = descriptors - arena + dry.reduce((n, s) => n + fieldCount(s.key) * 4, 0);
  const base = align(arena + imageBytes);
  const steps = lowerAll(base);
  const image = writeImage();
  const scratch = align(base + layout.peakBytes);
  const scratchBytes = align(scratchFor(program, bindings));
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
    const placeMask = (node: AttentionNode, N: number) => placed.get(maskKey(node, N))!;
    return schedule.map((s) => lower(s, { layout, base: from, weights, features, threads, placeMask }));
  }

  function writeImage(): Int32Array {
    const out = new Int32Array(imageBytes / 4);
    const floats = new Float32Array(out.buffer);
    for (const { at: where, data } of tables) out.set(data, (where - arena) / 4);
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

const maskKey = ({ attributes }: AttentionNode, N: number): string =>
  `${N}:${attributes.heads}:${JSON.stringify(attributes.mask)}`;

function placeMasks(program: Program, bindings: Bindings) {
  const masks = new Map<string, ReturnType<typeof blockMaskOf>>();
  const N = bindings.N ?? 1;
  for (const node of program.nodes) {
    if (node.kind !== 'attention') continue;
    const key = maskKey(node as AttentionNode, N);
    if (!masks.has(key)) masks.set(key, blockMaskOf(node as AttentionNode, N));
  }
  return masks;
}

/** The largest scratch that any kernel asks for, a thread. */
function scratchFor(program: Program, { N = 1 }: Bindings): number {
  const RAGGED_TILE = 16 * 16 * 4;
  return program.nodes.reduce(
    (most, node) =>
      node.kind === 'attention'
        ? Math.max(most, attentionScratch(N, padHead((node as AttentionNode).attributes.headSize)))
        : most,
    RAGGED_TILE,
  );
}
