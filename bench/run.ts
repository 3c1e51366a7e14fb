import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { AttentionBench } from './attention/attention.ts';
import { installPeers } from './install.ts';
import { peersInstalled } from './peers.ts';
import { type Machine, type Row, table } from './report.ts';
import type { Subjects } from './subjects.ts';

type Bench = (subjects: Subjects, machine: Machine, attention: AttentionBench) => Promise<Row[]>;
const BENCHES: Record<string, Bench> = {
  encoder: async (subjects) => (await import('./encoder.ts')).encoder(subjects),
  ops: async (subjects) => (await import('./ops.ts')).ops(subjects),
  attention: async (...given) => (await import('./attention/attention.ts')).attention(...given),
  long: async (subjects) => (await import('./long.ts')).long(subjects),
  load: async (subjects) => (await import('./load.ts')).load(subjects),
  peaks: async (subjects) => (await import('./peaks.ts')).peaks(subjects),
  size: async () => (await import('./size.ts')).size(),
  training: async (subjects) => (await import('./training.ts')).training(subjects),
  lowbit: async (subjects) => (await import('./lowbit.ts')).lowbit(subjects),
  accuracy: async (subjects) => (await import('./accuracy.ts')).accuracy(subjects),
};

const DEFAULT_MODEL = fileURLToPath(new URL('../../shared/models/all-MiniLM-L6-v2', import.meta.url));
const USAGE = `npm run bench -- [NAME] [--json] [--model DIR]

  NAME         ${Object.keys(BENCHES).join(', ')}; without a name, all of them
  --json       print one JSON object instead of a table
  --model DIR  Hugging Face folder of a BERT sentence encoder
               (default: ${DEFAULT_MODEL})

Of \`attention\`, which goes on where it stopped and keeps its figures in docs/cards:
  --only PART  measure these parts alone: d32-n4096, d64, real-layer0, …; may be given more than once
  --row NAME   measure these contenders alone; may be given more than once
  --again      measure again what is known already
  --minutes M  begin nothing later than this (default: no limit)`;

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

function readArguments(): { names: string[]; json: boolean; model: string; attention: AttentionBench } {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        model: { type: 'string', default: DEFAULT_MODEL },
        only: { type: 'string', multiple: true, default: [] },
        row: { type: 'string', multiple: true, default: [] },
        again: { type: 'boolean', default: false },
        minutes: { type: 'string', default: 'Infinity' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(`${USAGE}\n`);
      process.exit(0);
    }
    const unknown = positionals.find((name) => !Object.hasOwn(BENCHES, name));
    if (unknown)
      fail(`[bench] unknown name: expected one of ${Object.keys(BENCHES).join(', ')}, got ${unknown}.`);
    return {
      names: positionals.length ? positionals : Object.keys(BENCHES),
      json: values.json,
      model: values.model,
      attention: {
        only: values.only,
        names: values.row,
        again: values.again,
        minutes: Number(values.minutes),
      },
    };
  } catch (error) {
    fail(`[bench] ${(error as Error).message}\n\n${USAGE}`);
  }
}

async function machine(): Promise<Machine> {
  const { ceilings } = await import('./ceiling.ts');
  const { probeFeatures } = await import('../src/backend/wasm/probe.ts');
  return {
    cpu: cpus()[0].model.trim(),
    engine: `Node ${process.versions.node} (V8 ${process.versions.v8})`,
    dot: probeFeatures().dot,
    ceilings: await ceilings(),
  };
}

const { names, json, model, attention } = readArguments();
if (names.some((name) => name !== 'size') && !existsSync(model))
  fail(
    `[bench] model folder not found: expected a Hugging Face folder of a sentence encoder at ${model}. Pass --model DIR with a copy of sentence-transformers/all-MiniLM-L6-v2.`,
  );
if (!peersInstalled()) await installPeers();
const { Subjects: SubjectsClass } = await import('./subjects.ts');
const subjects = new SubjectsClass(model);
const about = await machine();
const rows: Row[] = [];
for (const name of names) {
  process.stderr.write(`${name} …\n`);
  rows.push(...(await BENCHES[name](subjects, about, attention)));
}
process.stdout.write(json ? `${JSON.stringify({ machine: about, rows })}\n` : `${table(about, rows)}\n`, () =>
  process.exit(rows.some((row) => row.agrees === false || row.ours === null) ? 1 : 0),
);
