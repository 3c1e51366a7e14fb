import { TrainingEngine } from '../../backend/wasm/training/engine.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { differentiate } from '../../program/gradient/differentiate.ts';
import { cosineDistance } from '../../program/gradient/losses.ts';
import { DROPOUT_SEED } from '../../program/gradient/training-program.ts';
import { traceOn } from '../../program/trace.ts';
import { configure } from '../../runtime/configure.ts';
import { nodePlatform } from '../../runtime/node/platform.ts';
import { type BatchOptions, encoderInputs, epochBatches, type TextBatch } from '../data/batches.ts';
import type { TokenTexts } from '../data/tokens.ts';
import { forwardPart } from '../forward.ts';
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
  /** Probability of dropping what a residual sum adds, 0 by default. */
  readonly dropout?: number;
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
  const encoder = await traceEncoder(student.config, specs);
  const whole = traceOn(encoder, specs, (t) => {
    const [embedding] = encoder.outputs;
    t.output(cosineDistance(t, embedding, t.input('target', 'float32', embedding.shape)));
  });
  const { trainable, dropout } = options;
  const program = differentiate(whole, { trainable, dropout });
  const forward = forwardPart(dropout ? differentiate(whole, { trainable }) : program);
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
    const bindingsOf = ({ texts: { length: B }, length: N }: TextBatch) => ({ B, N });
    const inputsOf = (of: TextBatch): Record<string, Int32Array | Float32Array> => {
      const { ids, lengths, types } = encoderInputs(texts, of);
      const rows = of.texts.map(options.target);
      const target = new Float32Array(rows.length * rows[0].length);
      rows.forEach((row, i) => {
        target.set(row, i * row.length);
      });
      return { ids, lengths, target, ...(student.config.tokenTypes > 0 ? { types } : {}) };
    };
    const microBatch = (of: TextBatch, step: number): MicroBatch => ({
      bindings: bindingsOf(of),
      inputs: { ...inputsOf(of), ...dropoutSeed(step) },
      tokens: of.texts.reduce((sum, text) => sum + texts.length(text), 0),
    });
    const dropoutSeed = (step: number): Record<string, Int32Array> =>
      options.dropout ? { [DROPOUT_SEED]: Int32Array.of(batch.seed, step) } : {};
    const judged = heldOutBatches(texts, heldOut, batch.size);
    const score = async () => {
      let sum = 0;
      for (const of of judged) {
        const [[loss]] = await machine.forward(forward, bindingsOf(of), inputsOf(of));
        sum += loss * of.texts.length;
      }
      return sum / heldOut.length;
    };
    const result = await train({
      ...options,
      machine,
      trainable: names,
      evaluate: { every: options.evaluateEvery, score },
      batches(step) {
        const wanted = Math.floor(step / perEpoch);
        if (wanted !== epoch) [epoch, order] = [wanted, epochBatches(texts, training, wanted, batch)];
        return [microBatch(order[step % perEpoch], step)];
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
