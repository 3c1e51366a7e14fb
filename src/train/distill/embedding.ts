import { TrainingEngine } from '../../backend/wasm/training/engine.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { differentiate } from '../../program/gradient/differentiate.ts';
import { cosineDistance } from '../../program/gradient/losses.ts';
import type { Program } from '../../program/program.ts';
import { traceOn } from '../../program/trace.ts';
import { configure } from '../../runtime/configure.ts';
import { nodePlatform } from '../../runtime/node/platform.ts';
import { type BatchOptions, encoderInputs, epochBatches, type TextBatch } from '../data/batches.ts';
import type { TokenTexts } from '../data/tokens.ts';
import type { UpdateOptions } from '../options.ts';
import { type MicroBatch, type TrainingOptions, type TrainingResult, train } from '../train.ts';
import { loadWeights, masterSpecs, withWeights } from '../weights.ts';

export interface EmbeddingDistillation
  extends Pick<TrainingOptions, 'patience' | 'checkpoint' | 'log' | 'signal' | 'onProgress'> {
  /** As the student's tokenizer reads them. */
  readonly texts: TokenTexts;
  /** The teacher's embedding of a text. */
  readonly target: (text: number) => Float32Array;
  /** Texts that are trained on, and those that the student is judged by. */
  readonly training: Uint32Array;
  readonly heldOut: Uint32Array;
  readonly batch: BatchOptions;
  readonly evaluateEvery: number;
  readonly update: UpdateOptions;
  readonly threads: number;
  /** Weights that change, by name. Default all. */
  readonly trainable?: (name: string) => boolean;
}

/**
 * Trains a student's embeddings towards those of a teacher: mean of 1 − cos over unlabelled texts. Ends with the
 * weights that did best on the texts held out.
 * @throws as `train` does
 */
export async function distillEmbeddings(
  student: Model,
  options: EmbeddingDistillation,
): Promise<{ model: Model; result: TrainingResult }> {
  const { texts, training, heldOut, batch, update, threads } = options;
  const specs = masterSpecs(student.weights.specs);
  const forward = await traceEncoder(student.config, specs);
  const program = differentiate(
    traceOn(forward, specs, (t) => {
      const [embedding] = forward.outputs;
      t.output(cosineDistance(t, embedding, t.input('target', 'float32', embedding.shape)));
    }),
    { trainable: options.trainable },
  );
  const platform = nodePlatform;
  const { features, tiles, threads: had } = await configure(student.config, { threads }, platform);
  const names = program.trainable.map(({ name }) => name);
  const machine = await TrainingEngine.create(program, {
    features,
    tiles,
    threads: had,
    spawn: platform.spawn,
    forward: [forward],
    groupOf: (name) => update.groups.findIndex(({ matches }) => matches(name)),
  });
  try {
    await loadWeights(machine, student, specs.keys());
    const perEpoch = Math.floor(training.length / batch.size);
    let [epoch, order] = [-1, [] as TextBatch[]];
    const inputsOf = (of: TextBatch, program: Program, target?: Float32Array) => {
      const all: Record<string, Int32Array | Float32Array> = encoderInputs(texts, of);
      if (target) all.target = target;
      const wanted = new Set(program.inputs.map(({ name }) => name));
      return Object.fromEntries(Object.entries(all).filter(([name]) => wanted.has(name)));
    };
    const microBatch = (of: TextBatch): MicroBatch => {
      const rows = of.texts.map(options.target);
      const target = new Float32Array(rows.length * rows[0].length);
      rows.forEach((row, i) => {
        target.set(row, i * row.length);
      });
      return {
        bindings: { B: of.texts.length, N: of.length },
        inputs: inputsOf(of, program.program, target),
        tokens: of.texts.reduce((sum, text) => sum + texts.length(text), 0),
      };
    };
    const judged = heldOutBatches(texts, heldOut, batch.size);
    const score = async () => {
      let [sum, count] = [0, 0];
      for (const of of judged) {
        const bindings = { B: of.texts.length, N: of.length };
        const [rows] = await machine.forward(forward, bindings, inputsOf(of, forward));
        const width = rows.length / of.texts.length;
        of.texts.forEach((text, i) => {
          sum += 1 - cosine(rows.subarray(i * width, (i + 1) * width), options.target(text));
          count++;
        });
      }
      return sum / count;
    };
    const result = await train({
      ...options,
      machine,
      trainable: names,
      evaluate: { every: options.evaluateEvery, score },
      batches(step) {
        const wanted = Math.floor(step / perEpoch);
        if (wanted !== epoch) [epoch, order] = [wanted, epochBatches(texts, training, wanted, batch)];
        return [microBatch(order[step % perEpoch])];
      },
    });
    return { model: withWeights(student, machine, names), result };
  } finally {
    machine.dispose();
  }
}

/** Texts in order of their length, cut into batches. */
function heldOutBatches(texts: TokenTexts, chosen: Uint32Array, size: number): TextBatch[] {
  const order = [...chosen].sort((a, b) => texts.length(a) - texts.length(b) || a - b);
  return Array.from({ length: Math.ceil(order.length / size) }, (_, i) => {
    const members = order.slice(i * size, (i + 1) * size);
    return { texts: members, length: texts.length(members[members.length - 1]) };
  });
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return dot / Math.sqrt(aa * bb || 1);
}
