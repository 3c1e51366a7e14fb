import { afterEach, describe, expect, it } from 'vitest';
import { runTraining } from '../../src/backend/reference/interpreter.ts';
import { probeFeatures } from '../../src/backend/wasm/probe.ts';
import { TrainingEngine } from '../../src/backend/wasm/training/engine.ts';
import { differentiate } from '../../src/program/gradient/differentiate.ts';
import { meanSquaredError } from '../../src/program/gradient/losses.ts';
import type { TrainingProgram } from '../../src/program/gradient/training-program.ts';
import {
  type StoredSpecs,
  withFakeInputs,
  withFakeWeights,
} from '../../src/program/gradient/with-fake-quantization.ts';
import { embedding } from '../../src/program/ops/embedding.ts';
import { storedName } from '../../src/program/ops/fake-quantize.ts';
import { linear } from '../../src/program/ops/linear.ts';
import type { Program } from '../../src/program/program.ts';
import { trace } from '../../src/program/trace.ts';
import { nodePlatform } from '../../src/runtime/node/platform.ts';
import {
  decode,
  type EncodeOptions,
  encode,
  formatSpec,
  type Weight,
  type WeightSpec,
} from '../../src/tensor/codec.ts';
import { symbol } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';
import { compare } from '../conformance/check.ts';

const probed = { ...probeFeatures(), panel: 8 } as const;
const plain = { level: 'simd128', fused: false, dot: 'i16', panel: 8 } as const;

const engines: TrainingEngine[] = [];
afterEach(() => {
  for (const engine of engines.splice(0)) engine.dispose();
});

async function open(
  training: TrainingProgram,
  weights: ReadonlyMap<string, Float32Array>,
  { threads = 1, features = probed as typeof probed | typeof plain } = {},
): Promise<TrainingEngine> {
  const engine = await TrainingEngine.create(training, {
    features,
    tiles: { float32: 4, int8: 4 },
    threads,
    spawn: nodePlatform.spawn,
  });
  engines.push(engine);
  for (const [name, values] of weights) engine.weight(name).set(values);
  return engine;
}

const float = (shape: readonly number[]): WeightSpec => ({ codec: 'float32', shape });

/** ‖xWᵀ + b − target‖² of x `[N, K]`. */
function product(C: number, K: number): Program {
  const specs = new Map([
    ['p.weight', float([C, K])],
    ['p.bias', float([C])],
    ['p.inputRange', float([2])],
    ['p.inputBinary', float([2])],
  ]);
  return trace(specs, (t) => {
    const x = t.input('x', 'float32', [symbol('N'), K]);
    const y = linear(t, x, [t.parameter('p.weight')], [t.parameter('p.bias')]);
    t.output(meanSquaredError(t, y, t.input('target', 'float32', [symbol('N'), C])));
  });
}

const SPECS: readonly (readonly [WeightSpec, EncodeOptions?])[] = [
  [{ codec: 'int8', shape: [6, 40] }],
  [{ codec: 'int8', shape: [6, 40], perTensor: true }],
  [{ codec: 'int8', shape: [5, 7], scaleType: 'float16' }],
  ...([32, 64, 128, undefined] as const).flatMap((groupSize) =>
    (['int4', 'int2'] as const).flatMap((codec) =>
      (['symmetric', 'affine'] as const).map(
        (scheme) => [{ codec, shape: [6, 128], groupSize, scheme }] as [WeightSpec],
      ),
    ),
  ),
  [{ codec: 'int4', shape: [4, 33], scaleType: 'float32', scheme: 'affine' }],
  [{ codec: 'int4', shape: [4, 1] }],
  ...(['twn', 'absmean'] as const).flatMap((ternary) => [
    [{ codec: 'ternary', shape: [6, 128], groupSize: 64 }, { ternary }] as const,
    [{ codec: 'ternary', shape: [5, 37], scaleType: 'float32' }, { ternary }] as const,
  ]),
  [{ codec: 'binary', shape: [6, 128], groupSize: 32 }],
  [{ codec: 'binary', shape: [5, 3], scaleType: 'float32' }],
];

/** Gaussian rows, some of them zero, tiny, large, of one sign or of one value. */
function rows([C, K]: readonly number[], seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: C * K }, (_, i) => {
    const x = random.gaussian();
    const row = Math.floor(i / K);
    if (seed === 0) return x;
    return [x, 0, x * 1e-6, x * 3000, Math.abs(x), -0.25, x * 1e-38][(row + seed) % 7];
  });
}

describe('weights as they will be stored', () => {
  it.each(
    SPECS.map(([spec, options]) => [`${formatSpec(spec)} ${options?.ternary ?? ''}`, spec, options] as const),
  )('%s: are decode(encode(w)), number by number', async (_, spec, options) => {
    const [C, K] = spec.shape;
    const training = withFakeWeights(differentiate(product(C, K)), new Map([['p.weight', spec]]), options);
    for (const threads of [1, 2]) {
      const engine = await open(training, new Map(), { threads });
      for (let seed = 0; seed < 8; seed++) {
        const w = rows([C, K], seed);
        engine.weight('p.weight').set(w);
        await engine.step({ N: 1 }, { x: new Float32Array(K), target: new Float32Array(C) });
        const want = decode(encode(spec, w, options));
        const got = engine.weight(storedName('p.weight'));
        for (let i = 0; i < want.length; i++)
          if (got[i] !== want[i]) expect({ seed, i, w: w[i], got: got[i] }).toEqual({ want: want[i] });
      }
    }
  });

  it('have the gradients of what is stored, straight through', async () => {
    const spec: WeightSpec = { codec: 'int4', shape: [8, 32], groupSize: 32 };
    const random = new Random(4);
    const weights = new Map([
      ['p.weight', random.gaussians(8 * 32)],
      ['p.bias', random.gaussians(8)],
    ]);
    const inputs = { x: random.gaussians(5 * 32), target: random.gaussians(5 * 8) };
    const plainly = differentiate(product(8, 32), { inputs: ['x'] });
    const faked = withFakeWeights(plainly, new Map([['p.weight', spec]]));
    const stored = new Map([...weights, ['p.weight', decode(encode(spec, weights.get('p.weight')!))]]);
    const [a, b] = [await open(plainly, stored), await open(faked, weights)];
    expect(await b.step({ N: 5 }, inputs)).toEqual(await a.step({ N: 5 }, inputs));
    for (const name of weights.keys()) expect(b.gradient(name)).toEqual(a.gradient(name));
    // A step moves what is trained; what is stored follows at the next run.
    const update = {
      groups: [{ learningRate: 0.3, weightDecay: 0 }],
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      step: 1,
    };
    await b.update(update);
    const moved = b.weight('p.weight').slice();
    expect(moved).not.toEqual(weights.get('p.weight'));
    await b.step({ N: 5 }, inputs);
    expect(b.weight(storedName('p.weight'))).toEqual(decode(encode(spec, moved)));
  });

  it('serve tables too, whose rows then have the gradients', async () => {
    const spec: WeightSpec = { codec: 'ternary', shape: [9, 32] };
    const program = trace(new Map([['word', float([9, 32])]]), (t) => {
      const ids = t.input('ids', 'int32', [symbol('B'), symbol('N')]);
      const x = embedding(t, ids, null, { word: t.parameter('word') });
      t.output(meanSquaredError(t, x, t.input('target', 'float32', [symbol('B'), symbol('N'), 32])));
    });
    const training = withFakeWeights(differentiate(program), new Map([['word', spec]]));
    const random = new Random(2);
    const word = random.gaussians(9 * 32);
    const inputs = { ids: Int32Array.of(3, 8, 3), target: random.gaussians(3 * 32) };
    const want = runTraining(
      training.program,
      new Map<string, Weight>([['word', encode('float32', [9, 32], word)]]),
      { ...inputs, lossScale: [1] },
      { B: 1, N: 3 },
    );
    const engine = await open(training, new Map([['word', word]]));
    const [[loss]] = await engine.step({ B: 1, N: 3 }, inputs);
    expect(loss).toBeCloseTo(want.outputs[0][0], 5);
    expect(
      compare({ absolute: 1e-7, relative: 1e-5 }, engine.gradient('word'), want.gradients.get('word')!),
    ).toMatchObject({
      ok: true,
    });
    const stored = decode(encode(spec, word));
    const mean = (row: number) => stored.subarray(row * 32, row * 32 + 32).reduce((s, x) => s + x * x, 0);
    expect(mean(3)).toBeGreaterThan(0);
    expect(
      engine
        .gradient('word')
        .subarray(0, 3 * 32)
        .every((g) => g === 0),
    ).toBe(true);
  });
});

type Companion = 'none' | 'inputRange' | 'inputBinary';

function inputCase(companion: Companion, seed: number) {
  const [N, C, K] = [7, 6, 37];
  const random = new Random(seed);
  const stored: StoredSpecs = new Map<string, WeightSpec>([
    ['p.weight', { codec: companion === 'inputBinary' ? 'binary' : 'int8', shape: [C, K] }],
    ...(companion === 'none' ? [] : [[`p.${companion}`, float([2])] as const]),
  ]);
  const whole = withFakeInputs(product(C, K), stored);
  const training = differentiate(whole, { inputs: ['x'] });
  const range = companion === 'inputRange' ? [-1.1, 1.7] : [0.8, 0.15];
  const weights = new Map([
    ['p.weight', random.gaussians(C * K)],
    ['p.bias', random.gaussians(C)],
    ...(companion === 'none' ? [] : [[`p.${companion}`, Float32Array.from(range)] as const]),
  ]);
  const inputs = { x: random.gaussians(N * K), target: random.gaussians(N * C) };
  return { N, C, K, whole, training, weights, inputs, range };
}

const weightsOf = ({ training, weights }: ReturnType<typeof inputCase>) =>
  new Map(
    [...training.trainable, ...training.frozen].map(({ name, shape }) => [
      name,
      encode('float32', shape, weights.get(name)!),
    ]),
  );

describe.each(['none', 'inputRange', 'inputBinary'] as const)(
  'inputs as they will be coded: %s',
  (companion) => {
    it.each([
      ['probed', probed, 1],
      ['probed', probed, 2],
      ['simd128', plain, 1],
    ] as const)('run and go back as their reference does: %s, %#', async (_, features, threads) => {
      const made = inputCase(companion, 11);
      const levels = features.dot === 'u7' ? 128 : 256;
      if (levels !== 256) return;
      const want = runTraining(
        made.training.program,
        weightsOf(made),
        { ...made.inputs, lossScale: [1] },
        { N: made.N },
      );
      const engine = await open(made.training, made.weights, { features, threads });
      const got = await engine.step({ N: made.N }, made.inputs);
      const budget = { absolute: 2e-6, relative: 2e-5 };
      want.outputs.forEach((r, i) => {
        expect(compare(budget, got[i], r)).toMatchObject({ ok: true });
      });
      for (const { name } of made.training.trainable)
        expect(compare(budget, engine.gradient(name), want.gradients.get(name)!), name).toMatchObject({
          ok: true,
        });
    });

    it('have straight-through gradients in closed form', () => {
      const made = inputCase(companion, 5);
      const { N, C, K, training, weights, inputs, range } = made;
      const { outputs, gradients } = runTraining(
        training.program,
        weightsOf(made),
        { ...inputs, lossScale: [1] },
        { N },
      );
      const w = weights.get('p.weight')!;
      // By the definitions, element by element: what x becomes, and what it and both numbers get of its gradient.
      const scale = (Math.max(range[1], 0) - Math.min(range[0], 0)) / 255;
      const became = (x: number): number => {
        if (companion === 'inputBinary') return x >= range[1] ? range[0] : -range[0];
        const zero = Math.round(-range[0] / scale);
        return scale * (Math.max(0, Math.min(255, Math.round(x / scale) + zero)) - zero);
      };
      const own = [0, 1, 2].map(() => new Float64Array(2));
      const dx = new Float64Array(N * K);
      let loss = 0;
      for (let n = 0; n < N; n++) {
        const row = inputs.x.subarray(n * K, (n + 1) * K);
        const [low, high] = [Math.min(0, ...row), Math.max(0, ...row)];
        const step = (high - low) / 255;
        const zero = Math.round(-low / step);
        const coded = Array.from(row, (x) =>
          companion === 'none'
            ? step * (Math.max(0, Math.min(255, Math.round(x / step) + zero)) - zero)
            : became(x),
        );
        for (let c = 0; c < C; c++) {
          let y = weights.get('p.bias')![c] - inputs.target[n * C + c];
          for (let k = 0; k < K; k++) y += coded[k] * w[c * K + k];
          loss += (y * y) / (N * C);
          for (let k = 0; k < K; k++) {
            const g = (2 * y * w[c * K + k]) / (N * C);
            const x = row[k];
            if (companion === 'none') dx[n * K + k] += g;
            else if (companion === 'inputBinary') {
              const inside = Math.abs(x - range[1]) <= range[0] ? 1 : 0;
              dx[n * K + k] += g * inside;
              own[0][0] += g * Math.sign(x - range[1]);
              own[0][1] -= g * inside;
            } else {
              const u = x / scale + Math.round(-range[0] / scale);
              const inside = u > 0 && u < 255;
              dx[n * K + k] += inside ? g : 0;
              const off = (Math.round(u) - u) / 255;
              const factor = g / Math.sqrt(K * 255);
              own[0][0] += factor * (u <= 0 ? 1 : u >= 255 ? 0 : -off);
              own[0][1] += factor * (u >= 255 ? 1 : u <= 0 ? 0 : off);
            }
          }
        }
      }
      expect(outputs[0][0]).toBeCloseTo(loss, 5);
      const gradientOfX = outputs[training.program.outputs.indexOf(training.inputGradients.get('x')!)];
      for (let i = 0; i < dx.length; i++) expect(gradientOfX[i]).toBeCloseTo(dx[i], 5);
      if (companion !== 'none') {
        const got = gradients.get(`p.${companion}`)!;
        expect(got[0]).toBeCloseTo(own[0][0], 5);
        expect(got[1]).toBeCloseTo(own[0][1], 5);
        expect(Math.abs(got[0])).toBeGreaterThan(1e-5);
      }
    });
  },
);

describe('a Program in fake quantisation', () => {
  it('leaves alone what will stay in floating point', () => {
    const program = product(4, 8);
    const specs = new Map([['p.weight', { codec: 'float16', shape: [4, 8] } as const]]);
    expect(withFakeInputs(program, specs).nodes.map(({ kind }) => kind)).toEqual(
      program.nodes.map(({ kind }) => kind),
    );
    const training = differentiate(program);
    expect(withFakeWeights(training, specs).program.nodes).toEqual(training.program.nodes);
  });

  it('refuses a specification of another weight', () => {
    const training = differentiate(product(4, 32));
    const fake = (spec: WeightSpec) => () => withFakeWeights(training, new Map([['p.weight', spec]]));
    expect(fake({ codec: 'int4', shape: [4, 16] })).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    );
    expect(fake({ codec: 'int4', shape: [4, 32], groupSize: 64 })).toThrow(
      expect.objectContaining({ code: 'GROUP_SIZE' }),
    );
  });
});
