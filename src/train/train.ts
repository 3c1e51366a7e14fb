import type { StepInputs, TrainingMachine } from '../backend/wasm/training/types.ts';
import type { FileStore } from '../format/file-store.ts';
import type { Bindings } from '../tensor/dim.ts';
import { AttenuateError } from '../tensor/error.ts';
import { type Blocks, readCheckpoint, type TrainingState, writeCheckpoint } from './checkpoint.ts';
import { TrainingLog } from './log.ts';
import type { PlannedMemory } from './machine.ts';
import type { UpdateOptions } from './options.ts';
import { learningRate } from './schedule.ts';

/** What one run of the training Program takes. Several make a step where gradients are accumulated. */
export interface MicroBatch {
  readonly bindings: Bindings;
  readonly inputs: StepInputs;
  /** Tokens that count, padding not. */
  readonly tokens: number;
}

export interface TrainingOptions {
  readonly machine: TrainingMachine;
  /** Names of the weights that are trained. */
  readonly trainable: readonly string[];
  /** The work of step 0, 1, …: of the step's number alone, so that a run can go on anywhere. */
  readonly batches: (step: number) => readonly MicroBatch[] | Promise<readonly MicroBatch[]>;
  readonly update: UpdateOptions;
  /** A score of the weights as they are, of which less is better, every so many steps. */
  readonly evaluate?: { readonly every: number; readonly score: (signal?: AbortSignal) => Promise<number> };
  /** Evaluations without a better score after which the run ends; its best weights are what it gives. */
  readonly patience?: number;
  /** Where the run's state is kept: a file, and the name of all that its result depends on. */
  readonly checkpoint?: {
    readonly files: FileStore;
    readonly name: string;
    readonly key: string;
    readonly everySeconds: number;
    readonly resume: boolean;
  };
  /** A file of one JSON object a line. */
  readonly log?: { readonly files: FileStore; readonly name: string; readonly every: number };
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TrainingProgress) => void;
  /** What was planned of the machine's memory; for the progress line. */
  readonly memory?: PlannedMemory;
  /** Millijoules of a token, estimated; for the progress line. */
  readonly energyOfToken?: number;
}

export interface TrainingProgress {
  readonly step: number;
  readonly steps: number;
  /** Running mean. */
  readonly loss: number;
  readonly score: number | null;
  readonly tokensPerSecond: number;
  readonly secondsLeft: number;
  /** Joules so far, estimated. */
  readonly energyJ: number | null;
  readonly memory: (PlannedMemory & { readonly measuredBytes: number }) | null;
}

export interface TrainingResult {
  readonly steps: number;
  readonly loss: number;
  readonly best: TrainingState['best'];
  readonly tokens: number;
  readonly seconds: number;
  readonly stoppedEarly: boolean;
}

const START: TrainingState = { step: 0, meanLoss: null, best: null, stale: 0, tokens: 0, seconds: 0 };
/** Share of a new loss in the running mean. */
const NEWS = 0.02;

/**
 * Trains a machine's weights in place: steps of forward, backward and AdamW from the checkpoint, where there is one, to
 * the schedule's end. A run that is stopped, at a signal or by a kill, goes on to the same weights, to the bit on one
 * thread, as one that never was. Ends with the best weights where there are evaluations.
 * @throws `TRAINING_DIVERGED` when a loss is not finite; the codes of `readCheckpoint`; the signal's reason, once the
 *   state is on the disk
 */
export async function train(options: TrainingOptions): Promise<TrainingResult> {
  const { machine, trainable, update, signal, checkpoint } = options;
  const { steps } = update.schedule;
  const best = options.evaluate
    ? new Map(trainable.map((name) => [`best:${name}`, machine.weight(name).slice()]))
    : new Map<string, Float32Array>();
  let state = START;
  if (checkpoint?.resume) {
    const blocks = blocksOf(machine, trainable, best);
    state = (await readCheckpoint(checkpoint.files, checkpoint.name, checkpoint.key, blocks)) ?? START;
  }
  const log = options.log && (await TrainingLog.open(options.log.files, options.log.name, state.step));
  const groupOf = trainable.map((name) => update.groups.findIndex(({ matches }) => matches(name)));
  if (groupOf.includes(-1)) throw noGroup(trainable[groupOf.indexOf(-1)]);
  const begun = performance.now();
  const before = state;
  const seconds = () => before.seconds + (performance.now() - begun) / 1000;
  let saved = performance.now();
  const save = async () => {
    if (!checkpoint) return;
    const blocks = blocksOf(machine, trainable, best);
    const { files, name, key } = checkpoint;
    await writeCheckpoint(files, name, key, { ...state, seconds: seconds() }, blocks);
    saved = performance.now();
  };
  let score: number | null = null;
  let stoppedEarly = false;
  while (state.step < steps && !stoppedEarly) {
    if (signal?.aborted) {
      await save();
      signal.throwIfAborted();
    }
    const { loss, tokens, norm } = await takeStep(options, state.step);
    const meanLoss = state.meanLoss === null ? loss : state.meanLoss + NEWS * (loss - state.meanLoss);
    state = { ...state, step: state.step + 1, meanLoss, tokens: state.tokens + tokens };
    const { evaluate } = options;
    if (evaluate && (state.step % evaluate.every === 0 || state.step === steps)) {
      score = await evaluate.score();
      const better = !state.best || score < state.best.score;
      if (better) for (const name of trainable) best.get(`best:${name}`)!.set(machine.weight(name));
      state = better
        ? { ...state, best: { step: state.step, score }, stale: 0 }
        : { ...state, stale: state.stale + 1 };
      await log?.write({ step: state.step, score });
      stoppedEarly = options.patience !== undefined && state.stale >= options.patience;
    }
    if (log && state.step % options.log!.every === 0)
      await log.write({
        step: state.step,
        loss: meanLoss,
        norm,
        rate: learningRate(update.schedule, state.step - 1),
        tokens: state.tokens,
        seconds: seconds(),
      });
    const done = state.tokens - before.tokens;
    const rate = done / Math.max(1e-3, seconds() - before.seconds);
    options.onProgress?.({
      step: state.step,
      steps,
      loss: meanLoss,
      score,
      tokensPerSecond: rate,
      secondsLeft: ((steps - state.step) * done) / Math.max(1, state.step - before.step) / rate,
      energyJ: options.energyOfToken === undefined ? null : (options.energyOfToken * state.tokens) / 1000,
      memory: options.memory ? { ...options.memory, measuredBytes: machine.memoryBytes } : null,
    });
    if (checkpoint && performance.now() - saved > checkpoint.everySeconds * 1000) await save();
  }
  await save();
  if (state.best) for (const name of trainable) machine.weight(name).set(best.get(`best:${name}`)!);
  return {
    steps: state.step,
    loss: state.meanLoss ?? Number.NaN,
    best: state.best,
    tokens: state.tokens,
    seconds: seconds(),
    stoppedEarly,
  };
}

/** Gradients of every micro-batch, weighted alike, then one update. */
async function takeStep(
  { machine, batches, update }: TrainingOptions,
  step: number,
): Promise<{ loss: number; tokens: number; norm: number }> {
  machine.clearGradients();
  const parts = await batches(step);
  const lossScale = Float32Array.of(1 / parts.length);
  let [loss, tokens] = [0, 0];
  for (const part of parts) {
    // Never cut short: half a step could not be gone on with.
    const [[partLoss]] = await machine.step(part.bindings, { lossScale, ...part.inputs });
    loss += partLoss / parts.length;
    tokens += part.tokens;
  }
  if (!Number.isFinite(loss))
    throw new AttenuateError(
      'TRAINING_DIVERGED',
      `[train] loss is not finite: expected a number, got ${loss} at step ${step}. Lower the learning rate, or lengthen the warm-up.`,
      { step, loss },
    );
  const rate = learningRate(update.schedule, step);
  const norm = await machine.update({
    groups: update.groups.map((g) => ({ learningRate: rate * g.rate, weightDecay: g.weightDecay })),
    beta1: update.beta1,
    beta2: update.beta2,
    epsilon: update.epsilon,
    step: step + 1,
    maxNorm: update.maxNorm ?? undefined,
  });
  return { loss, tokens, norm };
}

/** Views of everything that a checkpoint holds. */
function blocksOf(machine: TrainingMachine, trainable: readonly string[], best: Blocks): Blocks {
  const blocks = new Map<string, Float32Array>();
  for (const name of trainable) {
    const [first, second] = machine.moments(name);
    blocks.set(`weight:${name}`, machine.weight(name));
    blocks.set(`first:${name}`, first);
    blocks.set(`second:${name}`, second);
  }
  for (const [name, block] of best) blocks.set(name, block);
  return blocks;
}

const noGroup = (name: string) =>
  new AttenuateError(
    'PARAMETER_GROUP',
    `[train] weight in no group: expected a group that matches ${name}, got none. Add a group that matches all.`,
    { name },
  );
