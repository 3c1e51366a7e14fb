export type { Codec, Weight, WeightSpec } from '../tensor/codec.ts';
export { type Bindings, type Dim, type DimLike, evaluateDim, formatShape, symbol } from '../tensor/dim.ts';
export type { DType } from '../tensor/dtype.ts';
export { AttenuateError } from '../tensor/error.ts';
export { cost, type OpCost, type ProgramCost } from './cost.ts';
export { type BlockMask, type BlockMaskSize, buildBlockMask } from './mask/block-mask.ts';
export {
  add,
  and,
  constant,
  div,
  eq,
  evaluateInteger,
  evaluateMask,
  ge,
  head,
  type IntegerExpression,
  isRelative,
  key,
  le,
  type MaskExpression,
  mod,
  mul,
  not,
  or,
  type Pair,
  query,
  sub,
  usesHead,
  validateMask,
} from './mask/expression.ts';
export { type BlockClass, classify, type Interval, type PairRanges, rangeOf } from './mask/interval.ts';
export { type MemoryLayout, type MemoryOptions, type Placement, planMemory } from './memory.ts';
export type { OpDefinition, ReferenceContext, ReferenceTensor, Work, WorkContext } from './op.ts';
export { type Activation, activate, activation } from './ops/activation.ts';
export {
  type AttentionOptions,
  type AttentionSources,
  attention,
  type Heads,
  stacked,
} from './ops/attention.ts';
export { type EmbeddingTables, embedding } from './ops/embedding.ts';
export { layerNorm } from './ops/layer-norm.ts';
export { type HeadLayout, type LinearOptions, linear } from './ops/linear.ts';
export { l2Normalize, softmax } from './ops/normalize.ts';
export { type Pooling, pool } from './ops/pool.ts';
export { quantizeBinary } from './ops/quantize-binary.ts';
export { quantizeRows } from './ops/quantize-rows.ts';
export { OPS } from './ops/registry.ts';
export { selectRows } from './ops/select-rows.ts';
export type { Node, Parameter, Program, Stage, Value } from './program.ts';
export { Tracer, trace } from './trace.ts';
