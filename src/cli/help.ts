import { stripVTControlCharacters } from 'node:util';
import { type CommandDef, defineCommand, renderUsage } from 'citty';
import type { CliCommand } from './command.ts';

const EXIT_CODES = `EXIT CODES

    0  done
    1  an error, named with its code
    2  wrong arguments
    3  no candidate meets the budget (optimize)
  130  interrupted; a second Ctrl-C ends at once`;

/** What is known of a command before its file is loaded. */
export interface Listed {
  readonly name: string;
  readonly description: string;
}

const root = (version: string, commands: readonly Listed[]): CommandDef =>
  defineCommand({
    meta: {
      name: 'attenuate',
      version,
      description: 'Makes transformers fit the device you have: compress under a budget, measure, run.',
    },
    args: {
      help: { type: 'boolean', alias: 'h', description: 'Show help, also of a command' },
      version: { type: 'boolean', alias: 'v', description: 'Show the version' },
    },
    subCommands: Object.fromEntries(
      commands.map(({ name, description }) => [name, defineCommand({ meta: { name, description } })]),
    ),
  }) as CommandDef;

/** The program's own help. */
export async function rootHelp(version: string, commands: readonly Listed[]): Promise<string> {
  const usage = stripVTControlCharacters(await renderUsage(root(version, commands)));
  const examples = [
    'attenuate optimize ./all-MiniLM-L6-v2 --data reviews.csv --max-size 30MB --out out',
    'attenuate inspect out/model.safetensors',
    'attenuate run out/model.safetensors embed "a text"',
  ];
  return `${usage}\n\n${exampleText(examples)}\n\n${EXIT_CODES}\n\nNo command opens a network connection.\n`;
}

/** Help of one command: usage, flags, examples, exit codes. */
export async function commandHelp(version: string, command: CliCommand): Promise<string> {
  const usage = stripVTControlCharacters(await renderUsage(command.definition, root(version, [])));
  return `${usage.trimEnd()}\n\n${exampleText(command.examples)}\n\n${EXIT_CODES}\n`;
}

const exampleText = (examples: readonly string[]): string =>
  `EXAMPLES\n\n${examples.map((example) => `  ${example}`).join('\n')}`;
