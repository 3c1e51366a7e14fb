import { COMPARED, EPSILON, layerWeights, type OpenStep, type StepData } from './step.ts';

/** The little of jax-js that is used; every function takes its arguments over, `.ref` keeps one. */
interface Array {
  readonly ref: Array;
  add(x: Array | number): Array;
  sub(x: Array): Array;
  mul(x: Array | number): Array;
  div(x: Array): Array;
  reshape(shape: readonly number[]): Array;
  transpose(axes?: readonly number[]): Array;
  data(): Promise<Float32Array>;
}
type Weights = Readonly<Record<string, Array>>;
interface Jax {
  init(device: string): Promise<unknown>;
  defaultDevice(device: string): void;
  numpy: {
    array(data: Float32Array): Array;
    matmul(a: Array, b: Array): Array;
    mean(x: Array, axis?: number, options?: { keepdims: boolean }): Array;
    sum(x: Array, axis?: number, options?: { keepdims: boolean }): Array;
    sqrt(x: Array): Array;
  };
  nn: {
    softmax(x: Array, axis: number): Array;
    gelu(x: Array, options: { approximate: boolean }): Array;
  };
  tree: { ref<T>(tree: T): T; dispose(tree: unknown): void };
  jit<F>(f: F): F;
  valueAndGrad(
    f: (weights: readonly Weights[], x: Array, target: Array) => Array,
  ): (weights: readonly Weights[], x: Array, target: Array) => [Array, Weights[]];
  blockUntilReady(tree: unknown): Promise<unknown>;
}

const NAME = '@jax-js/jax';

/** The step in jax-js on its WebAssembly backend, compiled by `jit`. */
export async function openJax(data: StepData): Promise<OpenStep> {
  const jax = (await import(NAME)) as Jax;
  const { numpy: np, nn, tree } = jax;
  await jax.init('wasm');
  jax.defaultDevice('wasm');
  const { batch: B, n: N, size: C, heads: H, layers } = data.shape;
  const D = C / H;

  const norm = (x: Array, scale: Array, bias: Array): Array => {
    const centred = x.ref.sub(np.mean(x, -1, { keepdims: true }));
    const variance = np.mean(centred.ref.mul(centred.ref), -1, { keepdims: true });
    return centred
      .div(np.sqrt(variance.add(EPSILON)))
      .mul(scale)
      .add(bias);
  };
  const loss = (weights: readonly Weights[], x: Array, target: Array): Array => {
    let h = x;
    for (const w of weights) {
      const dense = (from: Array, name: string) =>
        np.matmul(from, w[`${name}.weight`].transpose()).add(w[`${name}.bias`]);
      const byHead = (y: Array) => y.reshape([B, N, H, D]).transpose([0, 2, 1, 3]);
      const [q, k, v] = ['query', 'key', 'value'].map((name) => byHead(dense(h.ref, name)));
      const scores = np.matmul(q, k.transpose([0, 1, 3, 2])).mul(1 / Math.sqrt(D));
      const o = np
        .matmul(nn.softmax(scores, -1), v)
        .transpose([0, 2, 1, 3])
        .reshape([B * N, C]);
      const y = norm(dense(o, 'output').add(h), w['attentionNorm.scale'], w['attentionNorm.bias']);
      const up = nn.gelu(dense(y.ref, 'up'), { approximate: false });
      h = norm(dense(up, 'down').add(y), w['feedForwardNorm.scale'], w['feedForwardNorm.bias']);
    }
    const pooled = np.mean(h.reshape([B, N, C]), 1);
    const length = np.sqrt(np.sum(pooled.ref.mul(pooled.ref), -1, { keepdims: true }));
    const error = pooled.div(length).sub(target);
    return np.mean(error.ref.mul(error));
  };

  const array = (values: Float32Array, shape: readonly number[]) => np.array(values).reshape(shape);
  const weights = Array.from({ length: layers }, (_, layer) =>
    Object.fromEntries(
      layerWeights(data.shape).map(([name]) => {
        const { data: values, shape } = data.weights.get(`${layer}.${name}`)!;
        return [name, array(values, shape)];
      }),
    ),
  );
  const x = array(data.x, [B * N, C]);
  const target = array(data.target, [B, C]);
  const step = jax.jit(jax.valueAndGrad(loss));
  const [layer, compared] = [Number(COMPARED[0]), COMPARED.slice(2)];
  return {
    async run() {
      const [value, gradients] = step(tree.ref(weights), x.ref, target.ref);
      await jax.blockUntilReady(gradients);
      const gradient = await gradients[layer][compared].ref.data();
      tree.dispose(gradients);
      return { loss: (await value.data())[0], gradient };
    },
    dispose() {
      tree.dispose(weights);
      tree.dispose([x, target]);
    },
  };
}
