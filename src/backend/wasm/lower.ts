import type { MemoryLayout, ScheduledNode } from '../../program/memory.ts';
import type { LinearAttributes } from '../../program/ops/linear.ts';
import type { Node, Program, Value } from '../../program/program.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { Features } from './kernels/kernel.ts';
import type { Lowering, OpLowering, Step } from './lowering.ts';
import { ON_DEMAND } from './on-demand.ts';
import { attentionLowering } from './ops/attention.ts';
import { embeddingLowering, poolLowering, selectRowsLowering } from './ops/gather.ts';
import { linearLowering } from './ops/linear.ts';
import {
  activationLowering,
  l2NormalizeLowering,
  layerNormLowering,
  quantizeRowsLowering,
  softmaxLowering,
} from './ops/rows.ts';
import type { WeightMap } from './weights.ts';

/** Lowerings of the ops in use, by kind. */
export type Lowerings = ReadonlyMap<string, OpLowering>;

/** What every encoder needs; the rest is loaded for the models that use it. */
const CORE: Lowerings = new Map(
  [
    activationLowering,
    attentionLowering,
    embeddingLowering,
    l2NormalizeLowering,
    layerNormLowering,
    linearLowering,
    poolLowering,
    quantizeRowsLowering,
    selectRowsLowering,
    softmaxLowering,
  ].map((lowering) => [lowering.kind, lowering as unknown as OpLowering]),
);

/** Products with weights that are neither float32 nor int8 have a lowering of their own, which serves those too. */
const isLowBit = ({ kind, parameters, attributes }: Node): boolean =>
  kind === 'linear' &&
  parameters
    .slice(0, (attributes as LinearAttributes).parts)
    .some(({ codec }) => codec !== 'float32' && codec !== 'int8');

/** The lowerings that a Program needs. @throws `OP_UNSUPPORTED` for a kind of op without one */
export async function loadLowerings(programs: readonly Program[]): Promise<Lowerings> {
  const nodes = programs.flatMap((program) => program.nodes);
  const found = new Map<string, OpLowering>();
  if (nodes.some(isLowBit)) found.set('linear', await ON_DEMAND.lowBitLinear());
  for (const { kind } of nodes) {
    if (found.has(kind)) continue;
    const lowering = CORE.get(kind) ?? (Object.hasOwn(ON_DEMAND, kind) ? await ON_DEMAND[kind]() : null);
    if (!lowering)
      throw new AttenuateError(
        'OP_UNSUPPORTED',
        `[wasm] no kernel: expected a known op, got ${kind}. Use another backend or another model.`,
        { kind },
      );
    found.set(kind, lowering);
  }
  return found;
}

export interface LowerContext {
  readonly lowerings: Lowerings;
  readonly layout: MemoryLayout;
  /** Address of the arena's first activation. */
  readonly base: number;
  readonly weights: WeightMap;
  readonly features: Features;
  readonly threads: number;
  readonly table: Lowering['table'];
}

/** One scheduled node as calls of kernels. */
export function lower(scheduled: ScheduledNode, context: LowerContext): readonly Step[] {
  const { node, first, count, stage } = scheduled;
  const { lowerings, layout, base, weights, features, threads, table } = context;
  const place = (value: Value) => layout.placements.get(value.id)!;
  return lowerings.get(node.kind)!.steps(node, {
    at: (value, row = 0, bytes = 0) => base + place(value).offset + (place(value).local ? 0 : row * bytes),
    shape: (value) => place(value).shape,
    weight: (parameter) => weights.raw.get(parameter.name)!,
    table,
    workspace: base + (layout.workspaces.get(node) ?? 0),
    step: (key, fields, units, chunk = Math.max(1, Math.ceil(units / (threads * 4)))) => ({
      key,
      fields,
      units,
      chunk,
      stage,
    }),
    first,
    count,
    layout,
    weights,
    features,
  });
}

/** Keys of the kernels that a Program's nodes call. */
export const keysOf = (lowerings: Lowerings, nodes: readonly Node[]): string[] =>
  nodes.flatMap((node) => lowerings.get(node.kind)!.keys(node));
