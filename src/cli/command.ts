import { parseArgs as parseStrictly } from 'node:util';
import { type ArgsDef, type CommandDef, defineCommand, type ParsedArgs, parseArgs } from 'citty';
import { AttenuateError } from '../tensor/error.ts';
import type { Io } from './io.ts';
import type { Progress } from './progress.ts';

/** What every command's help says about its exit code. */
export const EXIT = { ok: 0, error: 1, usage: 2, budget: 3, interrupted: 130 } as const;

export interface CommandContext {
  readonly io: Io;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/** What a command has found: one object for `--json`, text for people. */
export interface Outcome {
  readonly json: unknown;
  readonly text: string;
  /** Default: 0. */
  readonly exitCode?: number;
}

export interface CliCommand<T extends ArgsDef = ArgsDef> {
  readonly name: string;
  readonly definition: CommandDef<T>;
  /** Flags and arguments as declared. */
  readonly args: T;
  /** Arguments beyond the named ones are allowed; they stand in `args._`. */
  readonly rest: boolean;
  readonly examples: readonly string[];
  execute(args: ParsedArgs<T>, context: CommandContext): Promise<Outcome>;
}

export const JSON_FLAG = {
  json: { type: 'boolean', description: 'Print one JSON object instead of text' },
} as const;

/** Declares a command. */
export function command<const T extends ArgsDef>(spec: {
  readonly name: string;
  readonly description: string;
  readonly args: T;
  readonly rest?: boolean;
  readonly examples: readonly string[];
  execute(args: ParsedArgs<T>, context: CommandContext): Promise<Outcome>;
}): CliCommand<T> {
  const { name, description, args, rest = false, examples } = spec;
  const definition = defineCommand({ meta: { name, description }, args }) as CommandDef<T>;
  return { name, definition, args, rest, examples, execute: spec.execute };
}

/** An error in how the program was called: exit code 2. */
export const usageError = (command: string, message: string, fields: Record<string, unknown> = {}) =>
  new AttenuateError(
    'USAGE',
    `[${command}] ${message} See attenuate ${command === 'attenuate' ? '' : `${command} `}--help.`,
    fields,
  );

/**
 * Reads a command's arguments. citty takes whatever it is given, so flags that are not declared, missing values
 * and surplus arguments are refused here first.
 * @throws `USAGE`
 */
export function readArguments<T extends ArgsDef>(
  command: CliCommand<T>,
  argv: readonly string[],
): ParsedArgs<T> {
  const { name, args, rest } = command;
  const flags = Object.entries(args).filter(([, definition]) => definition.type !== 'positional');
  const places = Object.keys(args).length - flags.length;
  try {
    const options = flags.map(([flag, { type }]) => [
      flag,
      { type: type === 'boolean' ? 'boolean' : 'string' },
    ]);
    const { positionals } = parseStrictly({
      args: [...argv],
      options: Object.fromEntries(options),
      allowPositionals: true,
      strict: true,
    });
    if (!rest && positionals.length > places)
      throw new TypeError(`Unexpected argument ${JSON.stringify(positionals[places])}.`);
    return parseArgs<T>([...argv], args);
  } catch (error) {
    const [first] = (error as Error).message.split('\n');
    throw usageError(name, `wrong arguments: ${first.replace(/([^.])$/, '$1.')}`, { arguments: [...argv] });
  }
}
