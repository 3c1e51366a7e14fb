import { programEnergy } from '../device/energy/program.ts';
import { memoryStore } from '../format/memory-store.ts';
import type { Model, WeightStore } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { DROPOUT_SEED, type TrainingProgram } from '../program/gradient/training-program.ts';
import { withFakeInputs, withFakeWeights } from '../program/gradient/with-fake-quantization.ts';
import type { Program } from '../program/program.ts';
import { traceOn } from '../program/trace.ts';
import { type EncodeOptions, encode, type WeightSpec } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { type BatchOptions, encoderInputs, epochBatches, type TextBatch } from './data/batches.ts';
import type { TokenTexts } from './data/tokens.ts';
import { type MachineOptions, openMachine } from './machine.ts';
import { type Inputs, lookInside, type Objective } from './objective/objective.ts';
import type { UpdateOptions } from './options.ts';
import { type MicroBatch, type TrainingOptions, type TrainingResult, train } from './train.ts';
import { loadWeights, masterSpecs, withWeights } from './weights.ts';

export interface EncoderTraining
  extends MachineOptions,
    Pick<TrainingOptions, 'patience' | 'checkpoint' | 'log' | 'signal' | 'onProgress'> {
  /** As the model's tokenizer reads them. */
  readonly texts: TokenTexts;
  readonly objective: Objective;
  /** Texts that are trained on, and those that the model is judged by. */
  readonly training: Uint32Array;
  readonly heldOut: Uint32Array;
  readonly batch: BatchOptions;
  /** Parts of a step's texts that run one after another, their gradients added: 1 by default. */
  readonly accumulate?: number;
  readonly evaluateEvery: number;
  readonly update: UpdateOptions;
  /** Probability of dropping what a residual sum adds, 0 by default. */
  readonly dropout?: number;
  /** The model's weights that change, by name. Default all. */
  readonly trainable?: (name: string) => boolean;
  /** How weights will be stored afterwards: the run computes as the stored model will, and trains what is stored. */
  readonly stored?: StoredAs;
}

export interface StoredAs extends EncodeOptions {
  readonly specs: ReadonlyMap<string, WeightSpec>;
}

/**
 * Trains an encoder for an objective, end to end. Ends with the weights that did best on the texts held out, as
 * float32.
 * @throws as `train` and `openMachine` do; `TRAINING_PARTS`
 */
export async function trainEncoder(
  model: Model,
  options: EncoderTraining,
): Promise<{ model: Model; result: TrainingResult }> {
  const { texts, training, heldOut, batch, update, objective, dropout, accumulate = 1 } = options;
  const size = partSize(batch.size, accumulate);
  const own = masterSpecs(model.weights.specs);
  const extra = extraStore(objective);
  const specs = new Map([...own, ...extra.specs]);
  const encoder = await traceEncoder(model.config, own);
  const whole = storedInputs(
    traceOn(encoder, specs, (t) => t.output(objective.loss(t, lookInside(encoder)))),
    options.stored,
  );
  const trainable = (name: string) => extra.specs.has(name) || (options.trainable?.(name) ?? true);
  const { machine, program, forward, memory } = await openMachine(
    {
      config: model.config,
      whole,
      differentiate: { trainable, dropout },
      finish: (made) => storedWeights(made, options.stored),
      largest: { B: size, N: longest(texts, [training, heldOut]) },
      groupOf: (name) => update.groups.findIndex(({ matches }) => matches(name)),
    },
    options,
  );
  try {
    const names = program.trainable.map(({ name }) => name);
    const read = [...program.trainable, ...program.frozen].map(({ name }) => name);
    await loadWeights(
      machine,
      model,
      read.filter((name) => own.has(name)),
    );
    await loadWeights(machine, { weights: extra }, extra.specs.keys());
    const perEpoch = Math.floor(training.length / batch.size);
    let [epoch, order] = [-1, [] as TextBatch[]];
    const bindingsOf = ({ texts: { length: B }, length: N }: TextBatch) => ({ B, N });
    const inputsOf = async (of: TextBatch): Promise<Inputs> => {
      const { ids, lengths, types } = encoderInputs(texts, of);
      const given = { ids, lengths, ...(model.config.tokenTypes > 0 ? { types } : {}) };
      return { ...given, ...(await objective.inputs(of)) } as Inputs;
    };
    const dropoutSeed = (step: number): Inputs =>
      dropout ? { [DROPOUT_SEED]: Int32Array.of(batch.seed, step) } : {};
    const microBatch = async (of: TextBatch, step: number): Promise<MicroBatch> => ({
      bindings: bindingsOf(of),
      inputs: { ...(await inputsOf(of)), ...dropoutSeed(step) } as Inputs,
      tokens: of.texts.reduce((sum, text) => sum + texts.length(text), 0),
    });
    const judged = heldOutBatches(texts, heldOut, size);
    const score = async () => {
      let sum = 0;
      for (const of of judged) {
        const [[loss]] = await machine.forward(forward, bindingsOf(of), await inputsOf(of));
        sum += loss * of.texts.length;
      }
      return sum / heldOut.length;
    };
    const result = await train({
      ...options,
      machine,
      trainable: names,
      memory,
      evaluate: { every: options.evaluateEvery, score },
      energyOfToken: energyOfToken(program.program, size),
      async batches(step) {
        const wanted = Math.floor(step / perEpoch);
        if (wanted !== epoch) [epoch, order] = [wanted, epochBatches(texts, training, wanted, batch)];
        const parts = partsOf(texts, order[step % perEpoch], size);
        const made: MicroBatch[] = [];
        for (const [i, part] of parts.entries()) made.push(await microBatch(part, step * accumulate + i));
        return made;
      },
    });
    return {
      model: withWeights(
        model,
        machine,
        names.filter((name) => own.has(name)),
      ),
      result,
    };
  } finally {
    machine.dispose();
    objective.dispose?.();
  }
}

const storedInputs = (program: Program, stored?: StoredAs): Program =>
  stored ? withFakeInputs(program, stored.specs) : program;

const storedWeights = (program: TrainingProgram, stored?: StoredAs): TrainingProgram =>
  stored ? withFakeWeights(program, stored.specs, { ternary: stored.ternary }) : program;

/** Tokens of a text for which energy is estimated. */
const USUAL_LENGTH = 16;

/** Millijoules of a token in a step, estimated from the Program's work; undefined where that is not known. */
function energyOfToken(program: Program, size: number): number | undefined {
  const { value } = programEnergy(program, { B: size, N: USUAL_LENGTH, P: 1 });
  return value === null ? undefined : value / (size * USUAL_LENGTH);
}

/** The objective's own weights. */
const extraStore = ({ extra = new Map() }: Objective): WeightStore =>
  memoryStore(
    new Map([...extra].map(([name, { shape, data }]) => [name, encode({ codec: 'float32', shape }, data)])),
  );

/** @throws `TRAINING_PARTS` where a batch has no such equal parts: their means would not add up to its mean */
function partSize(batch: number, accumulate: number): number {
  if (batch % accumulate === 0) return batch / accumulate;
  throw new AttenuateError(
    'TRAINING_PARTS',
    `[train] batch that cannot be cut into equal parts: expected a multiple of ${accumulate} texts, got ${batch}. Change "batch" or "accumulate".`,
    { batch, accumulate },
  );
}

/** A batch in parts of so many texts, each as long as its own longest. */
function partsOf(texts: TokenTexts, batch: TextBatch, size: number): TextBatch[] {
  if (size === batch.texts.length) return [batch];
  return Array.from({ length: batch.texts.length / size }, (_, i) => {
    const members = batch.texts.slice(i * size, (i + 1) * size);
    return { texts: members, length: longest(texts, [members]) };
  });
}

const longest = (texts: TokenTexts, sets: readonly Iterable<number>[]): number => {
  let most = 0;
  for (const set of sets) for (const text of set) most = Math.max(most, texts.length(text));
  return most;
};

/** Texts in order of their length, cut into batches. */
function heldOutBatches(texts: TokenTexts, chosen: Uint32Array, size: number): TextBatch[] {
  const order = [...chosen].sort((a, b) => texts.length(a) - texts.length(b) || a - b);
  return Array.from({ length: Math.ceil(order.length / size) }, (_, i) => {
    const members = order.slice(i * size, (i + 1) * size);
    return { texts: members, length: texts.length(members[members.length - 1]) };
  });
}
