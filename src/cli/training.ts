import { parseBytes } from '../optimize/index.ts';
import { formatBytes } from '../report/index.ts';
import type { MachineOptions } from '../train/machine.ts';
import type { TrainingProgress } from '../train/train.ts';
import { usageError } from './command.ts';
import { wholeNumber } from './values.ts';

/** Finished parts and the state of a run, in the folder of its result. */
export const WORK_FOLDER = '.attenuate-training';

/** Flags of every command that trains. */
export const TRAINING_FLAGS = {
  epochs: { type: 'string', valueHint: 'n', description: 'Passes over the text' },
  steps: { type: 'string', valueHint: 'n', description: 'Steps, instead of passes' },
  batch: { type: 'string', valueHint: 'n', description: 'Texts in a step' },
  rate: { type: 'string', valueHint: 'x', description: 'Highest learning rate' },
  seed: { type: 'string', valueHint: 'n', description: 'Seed (default 1)' },
  threads: { type: 'string', valueHint: 'n', description: 'Threads; one gives the same bits each time' },
  accumulate: {
    type: 'string',
    valueHint: 'n',
    description: 'Equal parts of a step’s texts that run one after another',
  },
  'train-memory': {
    type: 'string',
    valueHint: 'size',
    description: 'Most memory, such as 512MB: what does not fit is computed again on the way back',
  },
  wide: {
    type: 'boolean',
    description: 'Ask Node 24 for wider vectors (an experimental flag of its engine)',
  },
  recipe: { type: 'string', valueHint: 'file', description: 'JSON list of steps that follow' },
  resume: { type: 'boolean', description: 'Go on where a run that was stopped stood' },
  out: { type: 'string', required: true, valueHint: 'folder', description: 'Where model.safetensors goes' },
} as const;

interface Flags {
  readonly epochs?: string;
  readonly steps?: string;
  readonly batch?: string;
  readonly rate?: string;
  readonly seed?: string;
  readonly accumulate?: string;
}

/** Options of a step that the flags name; those left out are undefined. @throws `USAGE` */
export function trainingOptions(command: string, flags: Flags) {
  const whole = (flag: 'steps' | 'batch' | 'seed' | 'accumulate') =>
    flags[flag] === undefined ? undefined : wholeNumber(command, `--${flag}`, flags[flag], 0);
  const positive = (flag: 'epochs' | 'rate') => {
    const text = flags[flag];
    if (text === undefined) return undefined;
    if (!(Number(text) > 0))
      throw usageError(command, `bad --${flag}: expected a number above 0, got ${JSON.stringify(text)}.`);
    return Number(text);
  };
  return {
    epochs: positive('epochs'),
    steps: whole('steps'),
    batch: whole('batch'),
    learningRate: positive('rate'),
    seed: whole('seed'),
    accumulate: whole('accumulate'),
  };
}

interface MachineFlags {
  readonly threads?: string;
  readonly wide?: boolean;
  readonly 'train-memory'?: string;
}

/** What the flags let a run take of the machine. @throws `USAGE`, `BUDGET_INVALID` */
export const machineOptions = (command: string, flags: MachineFlags): Omit<MachineOptions, 'platform'> => ({
  threads: flags.threads === undefined ? 1 : wholeNumber(command, '--threads', flags.threads),
  wide: flags.wide,
  memoryBytes:
    flags['train-memory'] === undefined ? undefined : parseBytes('--train-memory', flags['train-memory']),
});

/** Memory of a run, planned and measured, for its result. */
export const memoryFact = (memory: TrainingProgress['memory']): [string, string][] =>
  memory
    ? [
        [
          'memory',
          `${formatBytes(memory.plannedBytes)} planned (${formatBytes(memory.keptBytes)} if all were kept), ${formatBytes(memory.measuredBytes)} measured`,
        ],
      ]
    : [];

/** Loss, score, speed, what is left, and energy, in one line. */
export function progressLine({ step, steps, loss, score, ...p }: TrainingProgress): string {
  const minutes = p.secondsLeft / 60;
  const left = minutes < 1 ? `${Math.ceil(p.secondsLeft)} s` : `${Math.ceil(minutes)} min`;
  const energy = p.energyJ === null ? '' : `, ${p.energyJ.toPrecision(3)} J (estimated)`;
  const judged = score === null ? '' : `, held out ${score.toFixed(4)}`;
  return `step ${step} of ${steps}, loss ${loss.toFixed(4)}${judged}, ${Math.round(p.tokensPerSecond)} tokens/s, ${left} left${energy}`;
}
