import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AttenuateError } from '../tensor/error.ts';
import { loadCommand, runCli } from './cli.ts';
import { readArguments } from './command.ts';

const lines = (...texts: string[]) => ({
  async *[Symbol.asyncIterator]() {
    yield* texts;
  },
});

async function attenuate(argv: string[], { signal = new AbortController().signal, stdin = lines() } = {}) {
  let [stdout, stderr] = ['', ''];
  const code = await runCli(
    argv,
    {
      stdin,
      stdout: { write: (text) => (stdout += text) },
      stderr: { write: (text) => (stderr += text) },
    },
    signal,
  );
  return { code, stdout, stderr };
}

const COMMANDS = ['optimize', 'apply', 'distill', 'finetune', 'inspect', 'attention', 'run', 'bench'];

describe('help', () => {
  it('lists the commands, examples and exit codes', async () => {
    for (const flag of ['--help', '-h']) {
      const { code, stdout, stderr } = await attenuate([flag]);
      expect([code, stderr]).toEqual([0, '']);
      for (const word of [...COMMANDS, 'EXAMPLES', 'EXIT CODES', '130']) expect(stdout).toContain(word);
    }
  });

  it.each(COMMANDS)('%s shows its flags and examples that its own parser takes', async (name) => {
    const { code, stdout } = await attenuate([name, '--help']);
    expect(code).toBe(0);
    for (const word of ['USAGE', '--json', 'EXIT CODES']) expect(stdout).toContain(word);
    const examples = stdout.split('EXAMPLES')[1].split('EXIT CODES')[0].trim().split('\n');
    expect(examples.length).toBeGreaterThanOrEqual(3);
    const command = await loadCommand(name);
    for (const example of examples) {
      const [, call] = example.split(`attenuate ${name} `);
      const argv = [...call.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain);
      expect(readArguments(command, argv).model, example).toBe(argv[0]);
    }
  });

  it('is shown for no command, on stderr, as wrong usage', async () => {
    const { code, stdout, stderr } = await attenuate([]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('optimize');
  });

  it('is text after --', async () => {
    const { code } = await attenuate(['run', 'no-such-model', 'embed', '--', '--help']);
    expect(code).toBe(1);
  });
});

it('tells the version of package.json', async () => {
  const { version } = JSON.parse(readFileSync(resolve(import.meta.dirname, '../../package.json'), 'utf8'));
  expect(await attenuate(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
});

describe('wrong usage exits with 2 and one line', () => {
  it.each([
    [
      ['shrink'],
      'expected optimize, apply, distill, finetune, quantize, inspect, explain, attention, run, bench, tune, got "shrink"',
    ],
    [['inspect'], 'Missing required positional argument: MODEL'],
    [['inspect', 'm', '--colour'], "Unknown option '--colour'"],
    [['inspect', 'm', 'n'], 'Unexpected argument "n"'],
    [['optimize', 'm', '--out', 'o'], 'Missing required argument: --data'],
    [['optimize', 'm', '--data', 'd', '--out'], '--out'],
    [['optimize', 'm', '--data', 'd', '--out', 'o', '--max-size', 'big'], 'bad --max-size'],
    [['optimize', 'm', '--data', 'd', '--out', 'o', '--seed', '-1'], '--seed'],
    [['optimize', 'm', '--data', 'd', '--out', 'o', '--limit', '1'], 'bad --limit'],
    [['optimize', 'm', '--data', 'd', '--out', 'o', '--attention', 'loca'], 'expected one of'],
    [['optimize', 'm', '--data', 'd', '--out', 'o', '--attention', 'local(left=1)'], 'bad option right'],
    [['apply', 'm', '--out', 'o'], 'expected --recipe or --attention'],
    [['apply', 'm', '--out', 'o', '--attention', 'local('], 'one ) for each ('],
    [['distill', 'm', '--out', 'o'], 'Missing required argument: --texts'],
    [['distill', 'm', '--texts', 't', '--out', 'o', '--layers', 'two'], 'bad --layers'],
    [['distill', 'm', '--texts', 't', '--out', 'o', '--rate', '0'], 'bad --rate'],
    [['run', 'm', 'sing', 'a'], 'expected embed, similarity, classify, fill-mask, got "sing"'],
    [['run', 'm', 'toString', 'a'], 'unknown task'],
    [['run', 'm', 'embed', 'a', '--file', 'f'], 'texts twice'],
    [['run', 'm', 'embed'], 'no text'],
    [['bench', 'm', '--threads', '1,x'], 'bad --threads'],
    [['bench', 'm', '--json=yes'], '--json'],
  ])('%j', async (argv, words) => {
    const { code, stdout, stderr } = await attenuate(argv);
    expect(stderr).toContain(words);
    expect(stderr).toMatch(/^\[[a-z]+\] .*\((?:USAGE|BUDGET_INVALID)\)\n$/);
    expect([code, stdout]).toEqual([2, '']);
  });
});

describe('errors', () => {
  it('are one line with the code, without a trace', async () => {
    const { code, stdout, stderr } = await attenuate(['run', '/no/such/model', 'embed', 'a']);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^\[[a-z]+\] .*\([A-Z_]+\)\n$/i);
  });

  it('are one object with --json', async () => {
    const { code, stdout, stderr } = await attenuate(['inspect', 'm', '--colour', '--json']);
    expect([code, stderr]).toEqual([2, '']);
    const { error } = JSON.parse(stdout);
    expect(error.code).toBe('USAGE');
    expect(error.message).toContain('--colour');
    expect(error.fields).toEqual({ arguments: ['m', '--colour', '--json'] });
  });

  it.each(COMMANDS.map((name) => [name]))('%s opens no connection', async (name) => {
    const url = 'https://models.invalid/model.safetensors';
    const more =
      {
        apply: ['--attention', 'dense', '--out', 'never'],
        finetune: ['--data', 'wordnet:topics', '--out', 'never'],
        distill: ['--texts', import.meta.filename, '--out', 'never'],
        run: ['embed', 'a'],
        optimize: ['--data', 'wordnet:topics', '--out', 'never'],
      }[name] ?? [];
    const { code, stderr } = await attenuate([name, url, ...more]);
    expect(stderr).toContain('MODEL_REMOTE');
    expect(code).toBe(1);
  });

  it('of an interrupted command exit with 130', async () => {
    const controller = new AbortController();
    controller.abort(new AttenuateError('INTERRUPTED', '[attenuate] interrupted.'));
    const { code, stderr } = await attenuate(['run', '/no/such/model', 'embed', 'a'], {
      signal: controller.signal,
    });
    expect(code).toBe(130);
    expect(stderr).toBe('[attenuate] interrupted. (INTERRUPTED)\n');
  });

  it('carry no control sequences from a name into the terminal', async () => {
    const { stderr } = await attenuate(['\u001b[31mred\u0007']);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
    expect(stderr).not.toMatch(/[\u001b\u0007]/);
  });
});

it('runs as a program', () => {
  const main = resolve(import.meta.dirname, 'main.ts');
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'shrink', '--json'], {
    encoding: 'utf8',
  });
  expect(status, stderr).toBe(2);
  expect(JSON.parse(stdout).error.code).toBe('USAGE');
});
