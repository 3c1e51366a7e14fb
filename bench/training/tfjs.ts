import { createRequire } from 'node:module';
import { dirname, sep } from 'node:path';
import { COMPARED, EPSILON, layerWeights, type OpenStep, type StepData } from './step.ts';

interface Tensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}
type Unary = (x: Tensor) => Tensor;
type Binary = (a: Tensor | number, b: Tensor | number) => Tensor;
type Reduce = (x: Tensor, axis?: number, keepDims?: boolean) => Tensor;
/** The little of TensorFlow.js that is used. */
interface TensorFlow {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tensor(data: Float32Array, shape: readonly number[]): Tensor;
  matMul(a: Tensor, b: Tensor, transposeA?: boolean, transposeB?: boolean): Tensor;
  reshape(x: Tensor, shape: readonly number[]): Tensor;
  transpose(x: Tensor, axes: readonly number[]): Tensor;
  softmax(x: Tensor, axis: number): Tensor;
  add: Binary;
  sub: Binary;
  mul: Binary;
  div: Binary;
  sqrt: Unary;
  erf: Unary;
  mean: Reduce;
  sum: Reduce;
  dispose(list: readonly Tensor[]): void;
  valueAndGrads(f: (...x: Tensor[]) => Tensor): (x: readonly Tensor[]) => { value: Tensor; grads: Tensor[] };
}

/** The step in TensorFlow.js on its WebAssembly backend. */
export async function openTfjs(data: StepData): Promise<OpenStep> {
  const require = createRequire(import.meta.url);
  const tf: TensorFlow = require('@tensorflow/tfjs');
  const backend: { setWasmPaths(path: string): void } = require('@tensorflow/tfjs-backend-wasm');
  backend.setWasmPaths(dirname(require.resolve('@tensorflow/tfjs-backend-wasm')) + sep);
  if (!(await tf.setBackend('wasm'))) throw new Error('[bench] TensorFlow.js has no wasm backend here');
  await tf.ready();
  const { batch: B, n: N, size: C, heads: H, layers } = data.shape;
  const D = C / H;
  const names = layerWeights(data.shape).map(([name]) => name);

  const norm = (x: Tensor, scale: Tensor, bias: Tensor): Tensor => {
    const centred = tf.sub(x, tf.mean(x, -1, true));
    const variance = tf.mean(tf.mul(centred, centred), -1, true);
    return tf.add(tf.mul(tf.div(centred, tf.sqrt(tf.add(variance, EPSILON))), scale), bias);
  };
  const gelu = (x: Tensor): Tensor => tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))));
  const loss = (...weights: Tensor[]): Tensor => {
    let h = x;
    for (let layer = 0; layer < layers; layer++) {
      const at = (name: string) => weights[layer * names.length + names.indexOf(name)];
      const dense = (from: Tensor, name: string) =>
        tf.add(tf.matMul(from, at(`${name}.weight`), false, true), at(`${name}.bias`));
      const [q, k, v] = ['query', 'key', 'value'].map((name) =>
        tf.transpose(tf.reshape(dense(h, name), [B, N, H, D]), [0, 2, 1, 3]),
      );
      const weightsOf = tf.softmax(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(D)), -1);
      const o = tf.reshape(tf.transpose(tf.matMul(weightsOf, v), [0, 2, 1, 3]), [B * N, C]);
      const y = norm(tf.add(dense(o, 'output'), h), at('attentionNorm.scale'), at('attentionNorm.bias'));
      h = norm(
        tf.add(dense(gelu(dense(y, 'up')), 'down'), y),
        at('feedForwardNorm.scale'),
        at('feedForwardNorm.bias'),
      );
    }
    const pooled = tf.mean(tf.reshape(h, [B, N, C]), 1);
    const error = tf.sub(tf.div(pooled, tf.sqrt(tf.sum(tf.mul(pooled, pooled), -1, true))), target);
    return tf.mean(tf.mul(error, error));
  };

  const weights = [...data.weights.values()].map((w) => tf.tensor(w.data, w.shape));
  const x = tf.tensor(data.x, [B * N, C]);
  const target = tf.tensor(data.target, [B, C]);
  const compared = [...data.weights.keys()].indexOf(COMPARED);
  const step = tf.valueAndGrads(loss);
  return {
    async run() {
      const { value, grads } = step(weights);
      const gradient = await grads[compared].data();
      const [loss] = await value.data();
      tf.dispose([value, ...grads]);
      return { loss, gradient };
    },
    dispose: () => tf.dispose([...weights, x, target]),
  };
}
