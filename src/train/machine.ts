import { TrainingEngine } from '../backend/wasm/training/engine.ts';
import { trainingPeak } from '../backend/wasm/training/peak.ts';
import type { TrainingMachine } from '../backend/wasm/training/types.ts';
import type { EncoderConfig } from '../model/config.ts';
import { chooseSegments } from '../program/gradient/choose-segments.ts';
import { differentiate } from '../program/gradient/differentiate.ts';
import type { DifferentiateOptions, TrainingProgram } from '../program/gradient/training-program.ts';
import type { Parameter, Program } from '../program/program.ts';
import { configure } from '../runtime/configure.ts';
import type { Platform } from '../runtime/platform.ts';
import { elements } from '../tensor/codec.ts';
import type { Bindings } from '../tensor/dim.ts';
import { forwardPart } from './forward.ts';

/** What a run may take of the place that it is in. */
export interface MachineOptions {
  readonly platform: Platform;
  readonly threads: number;
  /** Asks the engine for wider vectors, as `load`'s option of this name does. */
  readonly wide?: boolean;
  /**
   * Most bytes of weights, gradients, moments and activations together: what does not fit is computed again on the way
   * back. Default: all is kept. A teacher that runs beside is not counted.
   */
  readonly memoryBytes?: number;
}

export interface MachineRequest {
  readonly config: EncoderConfig;
  /** Traced with its loss. */
  readonly whole: Program;
  readonly differentiate: DifferentiateOptions;
  /** What a training Program becomes before it runs. */
  readonly finish: (program: TrainingProgram) => TrainingProgram;
  /** The largest step that will come. */
  readonly largest: Bindings;
  readonly groupOf: (name: string) => number;
}

export interface OpenMachine {
  readonly machine: TrainingMachine;
  readonly program: TrainingProgram;
  /** The forward part, without dropout. */
  readonly forward: Program;
  readonly memory: PlannedMemory;
}

export interface PlannedMemory {
  /** Of weights, gradients, moments and activations of the largest step. */
  readonly plannedBytes: number;
  /** The same if nothing were computed again. */
  readonly keptBytes: number;
}

/** Tables, zeros and alignment beside the tensors. */
const MARGIN = 2 ** 21;

/**
 * Differentiates a Program within a limit of memory and opens an engine for it.
 * @throws `MEMORY_BUDGET` naming the least that would do, and the codes of `TrainingEngine.create`
 */
export async function openMachine(
  { config, whole, finish, largest, groupOf, ...request }: MachineRequest,
  { platform, threads, wide, memoryBytes }: MachineOptions,
): Promise<OpenMachine> {
  const { features, tiles, threads: had } = await configure(config, { threads, wide }, platform);
  const options = request.differentiate;
  const kept = finish(differentiate(whole, options));
  const peakOf = await trainingPeak(kept.program, features);
  const peak = (training: TrainingProgram) => peakOf(finish(training).program, largest);
  const held = heldBytes(kept) + MARGIN;
  const keptBytes = held + peakOf(kept.program, largest);
  const program =
    memoryBytes === undefined || keptBytes <= memoryBytes
      ? kept
      : finish(chooseSegments(whole, options, peak, memoryBytes - held).training);
  const forward = forwardPart(
    options.dropout ? finish(differentiate(whole, { ...options, dropout: undefined })) : kept,
  );
  const machine = await TrainingEngine.create(program, {
    features,
    tiles,
    threads: had,
    spawn: platform.spawn,
    forward: [forward],
    groupOf,
  });
  return {
    machine,
    program,
    forward,
    memory: { plannedBytes: held + peakOf(program.program, largest), keptBytes },
  };
}

/** Weights, with the copies that stand for how they will be stored, and of trained ones the gradients and two moments. */
function heldBytes({ program, trainable, frozen }: TrainingProgram): number {
  const read = [...trainable, ...frozen, ...program.nodes.flatMap(({ parameters }) => parameters)];
  const all = new Map(read.map((parameter) => [parameter.name, parameter]));
  return 4 * (3 * sizeOf(trainable) + sizeOf([...all.values()]));
}

const sizeOf = (parameters: readonly Parameter[]): number =>
  parameters.reduce((sum, { shape }) => sum + elements(shape), 0);
