import { type BlockMask, buildBlockMask } from '../../program/mask/block-mask.ts';
import type { MemoryLayout, ScheduledNode } from '../../program/memory.ts';
import type { ActivationNode } from '../../program/ops/activation.ts';
import type { AttentionNode } from '../../program/ops/attention.ts';
import type { EmbeddingNode } from '../../program/ops/embedding.ts';
import type { LayerNormNode } from '../../program/ops/layer-norm.ts';
import { type LinearNode, padHead } from '../../program/ops/linear.ts';
import type { PoolNode } from '../../program/ops/pool.ts';
import type { Node, Parameter, Value } from '../../program/program.ts';
import { elements } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { KEY_BLOCK, QUERY_BLOCK } from './kernels/attention.ts';
import type { Features } from './kernels/kernel.ts';
import type { KernelKey } from './module.ts';
import { linearId, storedCodec, type WeightMap } from './weights.ts';

/** One call of a kernel: its descriptor's fields, how many units of work, how many a thread takes at a time. */
export interface Step {
  readonly key: KernelKey;
  readonly fields: Readonly<Record<string, number>>;
  readonly units: number;
  readonly chunk: number;
  readonly stage: number;
}

/** Where the tables of a BlockMask were put. */
export interface PlacedMask {
  readonly mask: BlockMask;
  readonly starts: number;
  readonly ends: number;
  readonly entries: number;
  readonly tiles: number;
}

export interface LowerContext {
  readonly layout: MemoryLayout;
  /** Address of the arena's first activation. */
  readonly base: number;
  readonly weights: WeightMap;
  readonly features: Features;
  readonly threads: number;
  readonly placeMask: (node: AttentionNode, N: number) => PlacedMask;
}

/** Cache that a block of rows of x may take in a product, in bytes. */
const ROW_BLOCK_BYTES = 192 * 1024;

/** The kernel that runs a node: known before any shape is. */
export function kernelOf(node: Node): KernelKey {
  switch (node.kind) {
    case 'linear': {
      const { quantized, activation } = (node as LinearNode).attributes;
      return `gemm:${quantized ? 'int8' : 'float32'}:${activation}`;
    }
    case 'attention':
      return `attention:${(node as AttentionNode).attributes.headSize}`;
    case 'embedding': {
      const { word, position, type } = tables(node as EmbeddingNode);
      return `embedding:${storedCodec(word)}:${position ? storedCodec(position) : ''}:${type ? storedCodec(type) : ''}`;
    }
    case 'pool':
      return `pool:${(node as PoolNode).attributes.pooling}`;
    case 'activation':
      return `activation:${(node as ActivationNode).attributes.activation}`;
    case 'layerNorm':
    case 'l2Normalize':
    case 'softmax':
    case 'quantizeRows':
    case 'selectRows':
      return node.kind;
  }
  throw new AttenuateError(
    'OP_UNSUPPORTED',
    `[wasm] no kernel: expected a known op, got ${node.kind}. Use another backend or another model.`,
    { kind: node.kind },
  );
}

function tables({ parameters, attributes }: EmbeddingNode): {
  word: Parameter;
  position: Parameter | null;
  type: Parameter | null;
} {
  return {
    word: parameters[0],
    position: attributes.positions ? parameters[1] : null,
    type: attributes.tokenTypes ? parameters.at(-1)! : null,
  };
}

/** One scheduled node as one kernel call. */
export function lower(scheduled: ScheduledNode, context: LowerContext): Step {
  const { node, first, count, stage } = scheduled;
  const { layout, base, weights, threads } = context;
  const place = (value: Value) => layout.placements.get(value.id)!;
  const shape = (value: Value) => place(value).shape;
  /** Address of `row` of a value whose rows take `bytes`. */
  const at = (value: Value, row = 0, bytes = 0): number =>
    base + place(value).offset + (place(value).local ? 0 : row * bytes);
  const step = (fields: Record<string, number>, units: number): Step => ({
    key: kernelOf(node),
    fields,
    units,
    chunk: Math.max(1, Math.ceil(units / (threads * 4))),
    stage,
  });
  const [x] = node.inputs;
  const [y] = node.outputs;
  const columns = shape(x).at(-1)!;
  const rows = { x: at(x, first, columns * 4), y: at(y, first, columns * 4), columns };

  switch (node.kind) {
    case 'linear':
      return product(scheduled as ScheduledNode & { node: LinearNode }, context, step, at, shape);
    case 'layerNorm': {
      const [scale, bias] = node.parameters.map((p) => weights.raw.get(p.name)!);
      return step({ ...rows, scale, bias, epsilon: (node as LayerNormNode).attributes.epsilon }, count);
    }
    case 'l2Normalize':
    case 'softmax':
    case 'activation':
      return step(rows, count);
    case 'quantizeRows': {
      const [codes, scales] = node.outputs;
      const pitch = shape(codes).at(-1)!;
      const bytes = pitch * (context.features.dot === 'i16' ? 2 : 1);
      return step(
        { x: rows.x, codes: at(codes, first, bytes), scales: at(scales, first, 8), columns, pitch },
        count,
      );
    }
    case 'attention': {
      const { heads: H, scale } = (node as AttentionNode).attributes;
      const [, B, N] = shape(x);
      const { mask, starts, ends, entries, tiles } = context.placeMask(node as AttentionNode, N);
      const headLists = mask.heads > 1 ? Math.ceil(N / QUERY_BLOCK) * 4 : 0;
      const fields = {
        qkv: at(x),
        o: at(y),
        lengths: at(node.inputs[1]),
        scale: scale * Math.LOG2E,
        N,
        B,
        H,
        starts,
        ends,
        entries,
        tiles,
        headLists,
      };
      return { ...step(fields, B * H), chunk: 1 };
    }
    case 'embedding': {
      const { word, position, type } = tables(node as EmbeddingNode);
      const table = (p: Parameter | null) => (p ? weights.raw.get(p.name)! : 0);
      const scales = (p: Parameter | null) =>
        p?.codec === 'int8' ? table(p) + ((elements(p.shape) + 3) & ~3) : 0;
      const [B, N, C] = shape(y);
      return step(
        {
          ids: at(x),
          types: type ? at(node.inputs[1]) : 0,
          y: at(y),
          word: table(word),
          wordScales: scales(word),
          position: table(position),
          positionScales: scales(position),
          tokenType: table(type),
          tokenTypeScales: scales(type),
          columns: C,
          N,
          positions: position?.shape[0] ?? 1,
          factor: (node as EmbeddingNode).attributes.wordScale,
        },
        B * N,
      );
    }
    case 'pool': {
      const [B, N, C] = shape(x);
      return step({ x: at(x), y: at(y), lengths: at(node.inputs[1]), N, columns: C }, B);
    }
    case 'selectRows': {
      const [B, P, C] = shape(y);
      return step({ x: at(x), y: at(y), rows: at(node.inputs[1]), N: shape(x)[1], P, columns: C }, B * P);
    }
  }
  throw new AttenuateError(
    'OP_UNSUPPORTED',
    `[wasm] no lowering: expected a known op, got ${node.kind}. Use another backend or another model.`,
    { kind: node.kind },
  );
}

function product(
  { node, first, count }: ScheduledNode & { node: LinearNode },
  { features, weights }: LowerContext,
  step: (fields: Record<string, number>, units: number) => Step,
  at: (value: Value, row?: number, bytes?: number) => number,
  shape: (value: Value) => readonly number[],
): Step {
  const { quantized, residual, heads } = node.attributes;
  const packed = weights.linears.get(linearId(node))!;
  const [y] = node.outputs;
  const lda = quantized ? packed.K * (features.dot === 'i16' ? 2 : 1) : packed.K * 4;
  const ldc = shape(y).at(-1)! * 4;
  const allRows = elements(shape(node.inputs[0])) / shape(node.inputs[0]).at(-1)!;
  const panelsPerHead = heads ? padHead(heads.size) / features.panel : packed.panels;
  const rowsPerBlock = Math.min(count, Math.max(24, Math.floor(ROW_BLOCK_BYTES / lda / 24) * 24));
  const panelsPerUnit = Math.max(1, Math.ceil(packed.panels / 8));
  const unitsPerBlock = Math.ceil(packed.panels / panelsPerUnit);
  const last = node.inputs.at(-1)!;
  const made = step(
    {
      a: at(node.inputs[0], first, lda),
      rowScales: quantized ? at(node.inputs[1], first, 8) : 0,
      w: packed.w,
      scales: packed.scales,
      corrections: packed.corrections,
      bias: packed.bias,
      c: at(y, first, ldc),
      residual: residual ? at(last, first, ldc) : 0,
      M: count,
      K: packed.K,
      lda,
      ldc,
      panels: packed.panels,
      panelBytes: packed.panelBytes,
      lastColumns: packed.columns - (packed.panels - 1) * features.panel,
      panelsPerHead,
      headBytes: allRows * ldc,
      rowsPerBlock,
      panelsPerUnit,
      unitsPerBlock,
    },
    Math.ceil(count / rowsPerBlock) * unitsPerBlock,
  );
  return { ...made, chunk: 1 };
}

/** The BlockMask of an attention node at length N. */
export function blockMaskOf({ attributes }: AttentionNode, N: number): BlockMask {
  return buildBlockMask(attributes.mask, {
    heads: attributes.heads,
    queries: N,
    keys: N,
    queryBlock: QUERY_BLOCK,
    keyBlock: KEY_BLOCK,
  });
}
