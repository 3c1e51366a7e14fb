import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Mechanism } from '../../src/attention/mechanism.ts';
import { applyRecipe } from '../../src/compress/index.ts';
import { openModel } from '../../src/format/index.ts';
import type { Model } from '../../src/model/config.ts';
import { calibrationFrom } from '../../src/optimize/calibration.ts';
import { loadModel } from '../../src/runtime/index.ts';
import { byteSize } from '../../src/tensor/codec.ts';
import { variants } from '../attention/cases.ts';
import { installPeers } from '../install.ts';
import { peersInstalled } from '../peers.ts';
import { accuracyOf, attentionCard, type CardRow } from './attention-markdown.ts';
import { calibrationTexts, SCORED_MAILS, spamProbe, stsbDev } from './tasks.ts';

/**
 * `npm run card:attention [-- --rows N] [NAME …]`: every mechanism in every layer of MiniLM without any training, on
 * short sentences and on long mails. Rows that are known already are kept, so that an interrupted run goes on; at most
 * N are measured now, and `NAME …` are measured again.
 */
const MODEL = fileURLToPath(new URL('../../../shared/models/all-MiniLM-L6-v2', import.meta.url));
const FOLDER = fileURLToPath(new URL('../../docs/cards/', import.meta.url));
const JSON_FILE = `${FOLDER}attention.json`;

async function save(name: string, text: string): Promise<void> {
  await mkdir(FOLDER, { recursive: true });
  await writeFile(`${FOLDER}${name}.part`, text);
  await rename(`${FOLDER}${name}.part`, `${FOLDER}${name}`);
}

async function measure(
  base: Model,
  name: string,
  mechanism: Mechanism,
  options: Readonly<Record<string, unknown>>,
): Promise<CardRow> {
  const about = {
    name,
    kind: mechanism.kind,
    options,
    training: mechanism.needs.training,
    calibration: mechanism.needs.calibration,
  };
  try {
    const texts = await calibrationTexts();
    const recipe = [{ step: 'attention', kind: mechanism.kind, ...options }];
    const start = performance.now();
    const model = await applyRecipe(base, recipe, { calibrate: (built) => calibrationFrom(built, texts) });
    const madeSeconds = (performance.now() - start) / 1000;
    const loaded = await loadModel(model, { threads: 1 });
    try {
      const stsb = await stsbDev(loaded);
      const mails = (await spamProbe(loaded)).map(Number).join('');
      const bytes = [...model.weights.specs.values()].reduce((sum, spec) => sum + byteSize(spec), 0);
      return { ...about, stsb, mails, bytes, madeSeconds, failed: null };
    } finally {
      loaded.dispose();
    }
  } catch (error) {
    const failed = error instanceof Error ? error.message : String(error);
    return { ...about, stsb: null, mails: null, bytes: null, madeSeconds: null, failed };
  }
}

/** A mechanism by the first of its benchmark's options, and what else changes the result without any training. */
const isRow = ({ name, mechanism }: ReturnType<typeof variants>[number]): boolean =>
  name === Object.keys(mechanism.bench)[0] || /int8/.test(name);

/** A row in a process of its own, so that as many run at once as there are cores. */
function inChild(name: string): Promise<CardRow> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--no-warnings', process.argv[1], '--row', name], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let out = '';
    child.stdout.on('data', (piece) => (out += piece));
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve(JSON.parse(out)) : reject(new Error(`[card] ${name} ended with ${code}`)),
    );
  });
}

async function printRow(name: string): Promise<void> {
  const { mechanism, options } = variants().find((variant) => variant.name === name)!;
  const row = await measure(await openModel(MODEL), name, mechanism, options);
  process.stdout.write(JSON.stringify(row), () => process.exit(0));
}

async function writeCard(again: readonly string[], most: number): Promise<void> {
  if (!existsSync(MODEL)) {
    process.stderr.write(`[card] no model: expected all-MiniLM-L6-v2 at ${MODEL}. Put a copy there.\n`);
    process.exit(2);
  }
  if (!peersInstalled()) await installPeers();
  const rows = new Map<string, CardRow>();
  if (existsSync(JSON_FILE)) {
    const before: { rows: CardRow[] } = JSON.parse(await readFile(JSON_FILE, 'utf8'));
    for (const row of before.rows) rows.set(row.name, row);
  }
  const wanted = variants()
    .filter(isRow)
    .sort((a, b) => Number(b.name === 'dense') - Number(a.name === 'dense'));
  for (const { name, options } of wanted) {
    const before = rows.get(name);
    const same = JSON.stringify(before?.options) === JSON.stringify(options);
    if (!same || before?.mails?.length !== SCORED_MAILS || again.includes(name)) rows.delete(name);
  }
  const open = wanted.filter(({ name }) => !rows.has(name)).slice(0, most);
  const saveAll = async () => {
    const known = wanted.flatMap(({ name }) => rows.get(name) ?? []);
    const missing = wanted.flatMap(({ name }) => (rows.has(name) ? [] : [name]));
    await save('attention.json', `${JSON.stringify({ rows: known }, null, 2)}\n`);
    await save('attention.md', attentionCard(known, missing));
  };
  const next = async (): Promise<void> => {
    for (let variant = open.shift(); variant; variant = open.shift()) {
      const row = await inChild(variant.name);
      rows.set(variant.name, row);
      process.stderr.write(
        `${row.name}: ${row.failed ?? `STS-B ${row.stsb!.toFixed(4)}, mails ${accuracyOf(row.mails!).toFixed(3)}`}; ${open.length} left\n`,
      );
      await saveAll();
    }
  };
  await Promise.all(cpus().map(next));
  await saveAll();
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { row: { type: 'string' }, rows: { type: 'string', default: 'Infinity' } },
});
if (values.row) await printRow(values.row);
else await writeCard(positionals, Number(values.rows));
