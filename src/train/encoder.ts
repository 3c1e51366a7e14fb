import { TrainingEngine } from '../backend/wasm/training/engine.ts';
import { programEnergy } from '../device/energy/program.ts';
import { memoryStore } from '../format/memory-store.ts';
import type { Model, WeightStore } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { differentiate } from '../program/gradient/differentiate.ts';
import { DROPOUT_SEED, type TrainingProgram } from '../program/gradient/training-program.ts';
import { withFakeInputs, withFakeWeights } from '../program/gradient/with-fake-quantization.ts';
import type { Program } from '../program/program.ts';
import { traceOn } from '../program/trace.ts';
import { configure } from '../runtime/configure.ts';
import type { Platform } from '../runtime/platform.ts';
import { type EncodeOptions, encode, type WeightSpec } from '../tensor/codec.ts';
import { type BatchOptions, encoderInputs, epochBatches, type TextBatch } from './data/batches.ts';
import type { TokenTexts } from './data/tokens.ts';
import { forwardPart } from './forward.ts';
import { type Inputs, lookInside, type Objective } from './objective/objective.ts';
import type { UpdateOptions } from './options.ts';
import { type MicroBatch, type TrainingOptions, type TrainingResult, train } from './train.ts';
import { loadWeights, masterSpecs, withWeights } from './weights.ts';

export interface EncoderTraining
  extends Pick<TrainingOptions, 'patience' | 'checkpoint' | 'log' | 'signal' | 'onProgress'> {
  /** As the model's tokenizer reads them. */
  readonly texts: TokenTexts;
  readonly objective: Objective;
  /** Texts that are trained on, and those that the model is judged by. */
  readonly training: Uint32Array;
  readonly heldOut: Uint32Array;
  readonly batch: BatchOptions;
  readonly evaluateEvery: number;
  readonly update: UpdateOptions;
  /** Probability of dropping what a residual sum adds, 0 by default. */
  readonly dropout?: number;
  readonly threads: number;
  readonly platform: Platform;
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
 * @throws as `train` does
 */
export async function trainEncoder(
  model: Model,
  options: EncoderTraining,
): Promise<{ model: Model; result: TrainingResult }> {
  const { texts, training, heldOut, batch, update, threads, platform, objective, dropout } = options;
  const own = masterSpecs(model.weights.specs);
  const extra = extraStore(objective);
  const specs = new Map([...own, ...extra.specs]);
  const encoder = await traceEncoder(model.config, own);
  const whole = storedInputs(
    traceOn(encoder, specs, (t) => t.output(objective.loss(t, lookInside(encoder)))),
    options.stored,
  );
  const trainable = (name: string) => extra.specs.has(name) || (options.trainable?.(name) ?? true);
  const differentiated = (drop?: number) =>
    storedWeights(differentiate(whole, { trainable, dropout: drop }), options.stored);
  const program = differentiated(dropout);
  const forward = forwardPart(dropout ? differentiated() : program);
  const { features, tiles, threads: had } = await configure(model.config, { threads }, platform);
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
    const judged = heldOutBatches(texts, heldOut, batch.size);
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
      evaluate: { every: options.evaluateEvery, score },
      energyOfToken: energyOfToken(program.program, batch.size),
      async batches(step) {
        const wanted = Math.floor(step / perEpoch);
        if (wanted !== epoch) [epoch, order] = [wanted, epochBatches(texts, training, wanted, batch)];
        return [await microBatch(order[step % perEpoch], step)];
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

/** Texts in order of their length, cut into batches. */
function heldOutBatches(texts: TokenTexts, chosen: Uint32Array, size: number): TextBatch[] {
  const order = [...chosen].sort((a, b) => texts.length(a) - texts.length(b) || a - b);
  return Array.from({ length: Math.ceil(order.length / size) }, (_, i) => {
    const members = order.slice(i * size, (i + 1) * size);
    return { texts: members, length: texts.length(members[members.length - 1]) };
  });
}
