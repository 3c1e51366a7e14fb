import { readFileSync } from 'node:fs';
import { AttenuateError } from '../tensor/error.ts';
import { type CliCommand, type CommandContext, EXIT, readArguments, usageError } from './command.ts';
import { commandHelp, type Listed, rootHelp } from './help.ts';
import type { Io } from './io.ts';
import { createProgress } from './progress.ts';
import { printable } from './table.ts';

type Entry = Listed & { readonly load: () => Promise<CliCommand> };

/** A command's file is loaded when it is called. Its flags differ in type, so that the list holds the general one. */
const COMMANDS: readonly Entry[] = [
  {
    name: 'optimize',
    description: 'Find, build and measure the best combination of steps that meets a budget',
    load: async () => (await import('./commands/optimize.ts')).optimizeCommand as unknown as CliCommand,
  },
  {
    name: 'apply',
    description: 'Build an artifact from a recipe, without measuring it',
    load: async () => (await import('./commands/apply.ts')).applyCommand as unknown as CliCommand,
  },
  {
    name: 'distill',
    description: 'Train a smaller model to give a sentence encoder’s embeddings, on text without labels',
    load: async () => (await import('./commands/distill.ts')).distillCommand as unknown as CliCommand,
  },
  {
    name: 'finetune',
    description: 'Train a classifier end to end on your labels',
    load: async () => (await import('./commands/finetune.ts')).finetuneCommand as unknown as CliCommand,
  },
  {
    name: 'quantize',
    description: 'Store weights in fewer bits: all alike, or each as wide as it needs to be within a limit',
    load: async () => (await import('./commands/quantize.ts')).quantizeCommand as unknown as CliCommand,
  },
  {
    name: 'inspect',
    description: 'Show configuration, parameters, memory plan by length and cost by op',
    load: async () => (await import('./commands/inspect.ts')).inspectCommand as unknown as CliCommand,
  },
  {
    name: 'explain',
    description: 'Say why a model is slow or inaccurate on this device, and what to try',
    load: async () => (await import('./commands/explain.ts')).explainCommand as unknown as CliCommand,
  },
  {
    name: 'attention',
    description: 'Show where each head looks on your text, and which attention mechanism fits each layer',
    load: async () => (await import('./commands/attention.ts')).attentionCommand as unknown as CliCommand,
  },
  {
    name: 'run',
    description: 'Embed, compare or classify texts, or fill in masks',
    load: async () => (await import('./commands/run.ts')).runCommand as unknown as CliCommand,
  },
  {
    name: 'bench',
    description: 'Measure latency by length and threads, settings interleaved',
    load: async () => (await import('./commands/bench.ts')).benchCommand as unknown as CliCommand,
  },
  {
    name: 'tune',
    description: 'Find the fastest kernel tiles on this device and remember them',
    load: async () => (await import('./commands/tune.ts')).tuneCommand as unknown as CliCommand,
  },
];

/** Version in package.json, which stands two folders up in the sources and in the published package alike. */
export const version = (): string =>
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;

/** Flags of the program itself count before `--` only: what follows may be text. */
const asks = (argv: readonly string[], ...flags: string[]): boolean => {
  const end = argv.indexOf('--');
  return (end < 0 ? argv : argv.slice(0, end)).some((argument) => flags.includes(argument));
};

/** Runs one command line; gives the exit code. Nothing but the result goes to `io.stdout`. */
export async function runCli(argv: readonly string[], io: Io, signal: AbortSignal): Promise<number> {
  const progress = createProgress(io.stderr);
  try {
    return await dispatch(argv, { io, signal, progress });
  } catch (error) {
    progress.clear();
    return report(error, asks(argv, '--json'), io, signal);
  }
}

/** A command by its name. @throws `USAGE` for a name that is none */
export async function loadCommand(name: string): Promise<CliCommand> {
  const entry = COMMANDS.find((command) => command.name === name);
  if (!entry)
    throw usageError(
      'attenuate',
      `unknown command: expected ${COMMANDS.map((command) => command.name).join(', ')}, got ${JSON.stringify(name)}.`,
      { got: name },
    );
  return entry.load();
}

async function dispatch(argv: readonly string[], context: CommandContext): Promise<number> {
  const { io, progress } = context;
  const [name, ...rest] = argv;
  if (name === '--version' || name === '-v') {
    io.stdout.write(`${version()}\n`);
    return EXIT.ok;
  }
  if (name === undefined || name === '--help' || name === '-h') {
    (name === undefined ? io.stderr : io.stdout).write(await rootHelp(version(), COMMANDS));
    return name === undefined ? EXIT.usage : EXIT.ok;
  }
  const command = await loadCommand(name);
  if (asks(rest, '--help', '-h')) {
    io.stdout.write(await commandHelp(version(), command));
    return EXIT.ok;
  }
  const args = readArguments(command, rest);
  const { json, text, exitCode = EXIT.ok } = await command.execute(args, context);
  progress.clear();
  io.stdout.write(args.json ? `${JSON.stringify(json)}\n` : text.endsWith('\n') ? text : `${text}\n`);
  return exitCode;
}

const USAGE_CODES = new Set(['USAGE', 'BUDGET_INVALID']);

/** Errors that a caller can act on are one line; others keep their trace, since they are faults of this program. */
function report(error: unknown, json: boolean, io: Io, signal: AbortSignal): number {
  // Whatever an abort made fail, the reason is what happened, unless a command says it better.
  const told = error instanceof AttenuateError && error.code === 'INTERRUPTED';
  const known = signal.aborted && !told ? (signal.reason as unknown) : error;
  const { code, message, fields } = describe(known);
  if (json) io.stdout.write(`${JSON.stringify({ error: { code, message, fields } })}\n`);
  else io.stderr.write(`${printable(message)} (${code})\n`);
  if (code === 'UNEXPECTED' && !json && error instanceof Error && error.stack)
    io.stderr.write(`${error.stack}\n`);
  if (signal.aborted) return EXIT.interrupted;
  return USAGE_CODES.has(code) ? EXIT.usage : EXIT.error;
}

function describe(error: unknown): {
  code: string;
  message: string;
  fields: Readonly<Record<string, unknown>>;
} {
  if (error instanceof AttenuateError) return error;
  const { code, message, path } = error as NodeJS.ErrnoException;
  // The system's own errors (ENOENT, EACCES, ENOSPC) say enough in one line.
  if (typeof code === 'string' && /^E[A-Z]+$/.test(code))
    return { code, message: `[attenuate] ${message}`, fields: { path } };
  return { code: 'UNEXPECTED', message: `[attenuate] unexpected: ${message ?? String(error)}`, fields: {} };
}
