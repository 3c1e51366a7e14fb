import { trainingPeak } from '../src/backend/wasm/training/peak.ts';
import type { EncoderConfig } from '../src/model/config.ts';
import { cost } from '../src/program/cost.ts';
import { chooseSegments } from '../src/program/gradient/choose-segments.ts';
import type { Configuration } from '../src/runtime/configure.ts';
import { configure } from '../src/runtime/configure.ts';
import { nodePlatform } from '../src/runtime/node/platform.ts';
import { spinLoop } from './ceiling.ts';
import { cosine } from './outputs.ts';
import { describe } from './peers.ts';
import { betterBy, failedRow, type Row } from './report.ts';
import type { Subjects } from './subjects.ts';
import { interleave } from './timing.ts';
import { openJax } from './training/jax.ts';
import {
  kept,
  MINILM,
  type OpenStep,
  openOurs,
  type StepResult,
  type StepShape,
  stepData,
  stepProgram,
} from './training/step.ts';
import { openTfjs } from './training/tfjs.ts';

const PEERS = { 'jax-js wasm': openJax, 'tfjs wasm': openTfjs };
/** A peer this much slower than the fastest is timed once: it decides nothing. */
const TOO_SLOW = 3;

const agree = (a: StepResult, b: StepResult): boolean =>
  Math.abs(a.loss / b.loss - 1) < 1e-4 && cosine(a.gradient, b.gradient) > 0.9999;

/** Steps with their results; those that cannot run say why. */
async function openPeers(
  shape: StepShape,
  ours: StepResult,
): Promise<{ open: Map<string, OpenStep>; onceMs: Map<string, number>; agrees: boolean; notes: string[] }> {
  const data = stepData(shape);
  const open = new Map<string, OpenStep>();
  const onceMs = new Map<string, number>();
  const notes: string[] = [];
  let agrees = true;
  for (const [name, make] of Object.entries(PEERS))
    try {
      const step = await make(data);
      const first = await step.run();
      agrees &&= agree(first, ours);
      const from = performance.now();
      await step.run();
      onceMs.set(name, performance.now() - from);
      open.set(name, step);
    } catch (error) {
      notes.push(`${name}: ${describe(error)}`);
    }
  return { open, onceMs, agrees, notes };
}

/** The step as a user gets it by default, then on two threads and in wide vectors, beside other runtimes. */
async function stepRow(configuration: Configuration, config: EncoderConfig): Promise<Row> {
  const data = stepData(MINILM);
  const training = kept(data);
  const ours = await openOurs(data, training, configuration, 1);
  const two = await openOurs(data, training, configuration, 2);
  const result = await ours.run();
  const peers = await openPeers(MINILM, { ...result, gradient: result.gradient.slice() });
  const fastest = Math.min(...peers.onceMs.values());
  const timed = [...peers.open].filter(([name]) => peers.onceMs.get(name)! < TOO_SLOW * fastest);
  const others = timed.map(([, step]) => step.run);
  const options = { blocks: 7, blockMs: 20, rounds: 1 };
  const loop = spinLoop(configuration.features.fused ? 'f32Fused' : 'f32MulAdd')!;
  const plain = await interleave([ours.run, loop.run, two.run, ...others], options);
  // The flag holds from here on, for everything in this process.
  const wide = await openOurs(
    data,
    training,
    await configure(config, { threads: 1, wide: true }, nodePlatform),
    1,
  );
  const agrees = agree(await wide.run(), result);
  const inWide = await interleave([wide.run, ...others], options);
  for (const step of [ours, two, wide, ...peers.open.values()]) step.dispose();
  const products = cost(training.program, { B: MINILM.batch, N: MINILM.n })
    .byOp.filter(({ kind }) => /linear|attention/.test(kind))
    .reduce((sum, op) => sum + op.multiplyAdds, 0);
  const figures = new Map(timed.map(([name], i) => [name, plain.mediansMs[3 + i]]));
  const least = (ratios: readonly number[]) => (ratios.length ? Math.min(...ratios) : null);
  const main = least(plain.ratios.slice(3));
  return {
    id: 'step-n64-b16',
    metric: 'forward and backward of MiniLM’s layers, 16 texts of 64 tokens, one thread',
    unit: 'ms',
    better: 'lower',
    ours: plain.mediansMs[0],
    peers: Object.fromEntries(
      Object.keys(PEERS).map((name) => [name, figures.get(name) ?? peers.onceMs.get(name) ?? null]),
    ),
    ratio: main,
    agrees: peers.open.size ? peers.agrees && agrees : null,
    tolerance: 'loss within 1e-4, cosine of a gradient above 0.9999',
    details: {
      'share of the ceiling': (plain.ratios[1] * 2 * products) / loop.operations,
      'GFLOP/s': (2 * products) / plain.mediansMs[0] / 1e6,
      'at the whole ceiling: better by': main && main / ((plain.ratios[1] * 2 * products) / loop.operations),
      'in wide vectors (ms)': inWide.mediansMs[0],
      'in wide vectors: better by': least(inWide.ratios.slice(1)),
      'on two threads: better by': main && main / plain.ratios[2],
    },
    note: [
      ...peers.notes,
      'better by: the fastest peer, which has one thread; one that is 3× slower than it is timed once',
    ].join('; '),
  };
}

async function threadsRow(configuration: Configuration): Promise<Row> {
  const data = stepData(MINILM);
  const training = kept(data);
  const [one, two] = [
    await openOurs(data, training, configuration, 1),
    await openOurs(data, training, configuration, 2),
  ];
  await one.run();
  await two.run();
  const agrees = same(one.gradients(), two.gradients());
  const { mediansMs, ratios } = await interleave([two.run, one.run], { blocks: 9, blockMs: 20 });
  one.dispose();
  two.dispose();
  return {
    id: 'threads2-step',
    metric: 'the same step on two threads; peer: on one',
    unit: 'ms',
    better: 'lower',
    ours: mediansMs[0],
    peers: { 'one thread': mediansMs[1] },
    ratio: ratios[1],
    agrees,
    tolerance: 'every gradient to the bit',
  };
}

const DEEP: StepShape = { ...MINILM, layers: 12, batch: 1, n: 512 };

/** Activations of a deep step that computes segments again, beside one that keeps all. */
async function checkpointRow(configuration: Configuration): Promise<Row> {
  const data = stepData(DEEP);
  const all = kept(data);
  const bindings = { B: DEEP.batch, N: DEEP.n };
  const peak = await trainingPeak(all.program, configuration.features);
  const budget = Math.floor(peak(all.program, bindings) / 3);
  const { training } = chooseSegments(stepProgram(data), {}, (t) => peak(t.program, bindings), budget);
  const [whole, again] = [
    await openOurs(data, all, configuration, 1),
    await openOurs(data, training, configuration, 1),
  ];
  await whole.run();
  await again.run();
  const agrees = same(whole.gradients(), again.gradients());
  const { ratios } = await interleave([whole.run, again.run], { blocks: 7, blockMs: 20 });
  whole.dispose();
  again.dispose();
  return {
    id: 'checkpoint-memory',
    metric: 'peak bytes of activations, 12 layers, 512 tokens, with a third as budget; peer: all kept',
    unit: 'MB',
    better: 'lower',
    ours: again.peakBytes / 1e6,
    peers: { 'all kept': whole.peakBytes / 1e6 },
    ratio: betterBy('lower', again.peakBytes, whole.peakBytes),
    agrees,
    tolerance: 'every gradient to the bit',
    details: {
      'times as long': ratios[1],
      segments: training.segments.length,
      'by the √L formula (MB)': (2 * whole.peakBytes) / Math.sqrt(DEEP.layers) / 1e6,
    },
  };
}

const same = (a: readonly Float32Array[], b: readonly Float32Array[]): boolean =>
  a.every((x, i) => x.every((v, j) => Object.is(v, b[i][j])));

export async function training(subjects: Subjects): Promise<Row[]> {
  const { config } = await subjects.model('float32');
  const configuration = await configure(config, { threads: 1 }, nodePlatform);
  const rows: Row[] = [];
  const measure = async (id: string, row: () => Promise<Row>) => {
    rows.push(await row().catch((error) => failedRow(id, error)));
  };
  await measure('threads2-step', () => threadsRow(configuration));
  await measure('checkpoint-memory', () => checkpointRow(configuration));
  // Last: it sets a flag of the engine that holds for the whole process.
  await measure('step-n64-b16', () => stepRow(configuration, config));
  return rows;
}
