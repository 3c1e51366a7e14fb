import type { Parameter, Program, Value } from '../program.ts';

/**
 * A Program that computes a loss and its gradients: forward nodes, loss, backward nodes, one flat list. How to make
 * one, and run it:
 *
 * 1. `specs = masterSpecs(weights)`: every weight as float32, which is how training holds it.
 * 2. `forward = await traceEncoder(config, specs)`, or any traced Program.
 * 3. `whole = traceOn(forward, specs, (t) => { t.output(loss) … })`: the loss, of one element, is the first output; what
 *    else is of interest (logits, parts of the loss) may follow. Values inside `forward` may be used: the logits of a
 *    classifier are the input of its last node, a softmax, which then falls away.
 * 4. `training = differentiate(whole, options)`.
 * 5. `engine = await TrainingEngine.create(training, …)` in `backend/wasm/training`, or `runTraining` in
 *    `backend/reference`.
 *
 * Parameters have an identity, their name: one that several nodes read is stored once and has one gradient. Weights,
 * gradients and the two moments of the optimizer are four blocks of float32 in the engine's memory with the same
 * layout, so that clipping and the optimizer are loops over flat memory. A step adds to the gradients: the caller
 * clears them when a batch begins, and accumulates by running several steps. The input `lossScale` `[1]` multiplies
 * every gradient (1 / steps for a mean over accumulated steps); the loss itself is not scaled.
 */
export interface TrainingProgram {
  readonly program: Program;
  /** Weights that have a gradient, each once, in the order of the blocks. */
  readonly trainable: readonly Parameter[];
  /** Weights that are read and stay as they are. */
  readonly frozen: readonly Parameter[];
  /** Gradients of Program inputs that were asked for by `inputs`; they are outputs of the Program too. */
  readonly inputGradients: ReadonlyMap<string, Value>;
  /** Stages of the forward Program at which a recomputed segment begins; empty where everything is kept. */
  readonly segments: readonly number[];
}

export interface DifferentiateOptions {
  /** Which weights have a gradient, by name. Default all. */
  readonly trainable?: (name: string) => boolean;
  /** Names of float inputs whose gradient is wanted too. */
  readonly inputs?: readonly string[];
  /**
   * Probability of dropping an element of the embedding and of what each residual sum adds. The masks depend on the
   * input `dropoutSeed` `[2]` (int32: seed, step) and the place alone, so that a step run again gives the same.
   */
  readonly dropout?: number;
  /** Stages of the forward Program at which a segment begins that the backward pass computes again. Default none. */
  readonly segments?: readonly number[];
}

/** The input that scales every gradient, `[1]` float32. */
export const LOSS_SCALE = 'lossScale';
/** The input that the masks of dropout depend on, `[2]` int32. It exists where dropout does. */
export const DROPOUT_SEED = 'dropoutSeed';
