import { TrainingEngine } from '../../src/backend/wasm/training/engine.ts';
import { differentiate } from '../../src/program/gradient/differentiate.ts';
import { meanSquaredError } from '../../src/program/gradient/losses.ts';
import type { TrainingProgram } from '../../src/program/gradient/training-program.ts';
import { attention, stacked } from '../../src/program/ops/attention.ts';
import { layerNorm } from '../../src/program/ops/layer-norm.ts';
import { linear } from '../../src/program/ops/linear.ts';
import { l2Normalize } from '../../src/program/ops/normalize.ts';
import { pool } from '../../src/program/ops/pool.ts';
import type { Program, Value } from '../../src/program/program.ts';
import { type Tracer, trace } from '../../src/program/trace.ts';
import type { Configuration } from '../../src/runtime/configure.ts';
import { nodePlatform } from '../../src/runtime/node/platform.ts';
import { symbol } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';

/** The layers of a BERT encoder, mean pooled, of length 1, towards given embeddings by the mean squared error. */
export interface StepShape {
  readonly batch: number;
  readonly n: number;
  readonly size: number;
  readonly heads: number;
  readonly feedForward: number;
  readonly layers: number;
}

/** MiniLM's layers on 16 texts of 64 tokens. */
export const MINILM: StepShape = { batch: 16, n: 64, size: 384, heads: 12, feedForward: 1536, layers: 6 };
export const EPSILON = 1e-12;

/** Names of one layer's weights, with their shapes `[out, in]`. */
export function layerWeights({ size: C, feedForward: F }: StepShape): [name: string, shape: number[]][] {
  const dense = (name: string, out: number, from: number): [string, number[]][] => [
    [`${name}.weight`, [out, from]],
    [`${name}.bias`, [out]],
  ];
  const norm = (name: string): [string, number[]][] => [
    [`${name}.scale`, [C]],
    [`${name}.bias`, [C]],
  ];
  return [
    ...['query', 'key', 'value', 'output'].flatMap((name) => dense(name, C, C)),
    ...norm('attentionNorm'),
    ...dense('up', F, C),
    ...dense('down', C, F),
    ...norm('feedForwardNorm'),
  ];
}

/** The same data for every runtime: weights by `layer.name`, rows of x `[batch · n, size]`, targets `[batch, size]`. */
export interface StepData {
  readonly shape: StepShape;
  readonly weights: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;
  readonly x: Float32Array;
  readonly target: Float32Array;
}

export function stepData(shape: StepShape): StepData {
  const random = new Random(1);
  const weights = new Map<string, { shape: number[]; data: Float32Array }>();
  for (let layer = 0; layer < shape.layers; layer++)
    for (const [name, of] of layerWeights(shape)) {
      const data = random.gaussians(
        of.reduce((a, b) => a * b),
        0.05,
      );
      if (name.endsWith('.scale')) for (let i = 0; i < data.length; i++) data[i] += 1;
      weights.set(`${layer}.${name}`, { shape: of, data });
    }
  const { batch, n, size } = shape;
  return {
    shape,
    weights,
    x: random.gaussians(batch * n * size),
    target: random.gaussians(batch * size, 0.05),
  };
}

/** What a runtime's step gives: the loss, and the gradient of one weight, `[out, in]`. */
export interface StepResult {
  readonly loss: number;
  readonly gradient: Float32Array;
}
export const COMPARED = '0.up.weight';

export interface OpenStep {
  run(): Promise<StepResult>;
  dispose(): void;
}

function layer(t: Tracer, shape: StepShape, index: number, x: Value, lengths: Value): Value {
  const at = (name: string) => t.parameter(`${index}.${name}`);
  const dense = (from: Value, names: readonly string[], options: Parameters<typeof linear>[4] = {}) =>
    linear(
      t,
      from,
      names.map((n) => at(`${n}.weight`)),
      names.map((n) => at(`${n}.bias`)),
      options,
    );
  const norm = (of: Value, name: string) =>
    layerNorm(t, of, at(`${name}.scale`), at(`${name}.bias`), EPSILON);
  const { heads, size } = shape;
  const headSize = size / heads;
  const qkv = dense(x, ['query', 'key', 'value'], { heads: { size: headSize } });
  const [o] = attention(
    t,
    { ...stacked(qkv, heads), lengths },
    { heads, headSize, scale: 1 / Math.sqrt(headSize) },
  );
  const y = norm(dense(o, ['output'], { residual: x }), 'attentionNorm');
  const up = dense(y, ['up'], { activation: 'gelu' });
  return norm(dense(up, ['down'], { residual: y }), 'feedForwardNorm');
}

export function stepProgram({ shape, weights }: StepData): Program {
  const specs = new Map(
    [...weights].map(([name, w]) => [name, { codec: 'float32' as const, shape: w.shape }]),
  );
  const [B, N] = [symbol('B'), symbol('N')];
  return trace(specs, (t) => {
    let x = t.input('x', 'float32', [B, N, shape.size]);
    const lengths = t.input('lengths', 'int32', [B]);
    const target = t.input('target', 'float32', [B, shape.size]);
    for (let i = 0; i < shape.layers; i++) x = t.stage(`layer ${i}`, () => layer(t, shape, i, x, lengths));
    t.output(t.stage('head', () => meanSquaredError(t, l2Normalize(t, pool(t, x, lengths, 'mean')), target)));
  });
}

/** Our step. Every weight has a gradient. */
export async function openOurs(
  { shape, weights, x, target }: StepData,
  training: TrainingProgram,
  { features, tiles }: Configuration,
  threads: number,
): Promise<OpenStep & { gradients(): Float32Array[]; peakBytes: number }> {
  const engine = await TrainingEngine.create(training, {
    features,
    tiles,
    threads,
    spawn: nodePlatform.spawn,
  });
  for (const { name } of training.trainable) engine.weight(name).set(weights.get(name)!.data);
  const { batch: B, n: N } = shape;
  const inputs = { x, target, lengths: new Int32Array(B).fill(N) };
  return {
    async run() {
      engine.clearGradients();
      const [[loss]] = await engine.step({ B, N }, inputs);
      return { loss, gradient: engine.gradient(COMPARED) };
    },
    gradients: () => training.trainable.map(({ name }) => engine.gradient(name).slice()),
    peakBytes: engine.peakBytes({ B, N }),
    dispose: () => engine.dispose(),
  };
}

export const kept = (data: StepData): TrainingProgram => differentiate(stepProgram(data));
