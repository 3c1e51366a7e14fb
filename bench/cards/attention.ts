import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
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
import { attentionCard, type CardRow } from './attention-markdown.ts';
import { calibrationTexts, spamProbe, stsbDev } from './tasks.ts';

/**
 * `npm run card:attention [-- NAME …]`: every mechanism in every layer of MiniLM without any training, on short
 * sentences and on long mails. Rows that are known already are kept, so that an interrupted run goes on; `NAME …`
 * measures those again.
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
    const loaded = await loadModel(model, { threads: Math.min(2, cpus().length) });
    try {
      const stsb = await stsbDev(loaded);
      const { accuracy, test } = await spamProbe(loaded);
      const bytes = [...model.weights.specs.values()].reduce((sum, spec) => sum + byteSize(spec), 0);
      return { ...about, stsb, spam: accuracy, spamTest: test, bytes, madeSeconds, failed: null };
    } finally {
      loaded.dispose();
    }
  } catch (error) {
    const failed = error instanceof Error ? error.message : String(error);
    return { ...about, stsb: null, spam: null, spamTest: 0, bytes: null, madeSeconds: null, failed };
  }
}

const again = process.argv.slice(2);
if (!existsSync(MODEL)) {
  process.stderr.write(`[card] no model: expected all-MiniLM-L6-v2 at ${MODEL}. Put a copy there.\n`);
  process.exit(2);
}
if (!peersInstalled()) await installPeers();
const known = new Map<string, CardRow>(
  existsSync(JSON_FILE)
    ? (JSON.parse(await readFile(JSON_FILE, 'utf8')) as { rows: CardRow[] }).rows.map((row) => [
        row.name,
        row,
      ])
    : [],
);
const base = await openModel(MODEL);
const rows: CardRow[] = [];
for (const { name, mechanism, options } of variants()) {
  const before = known.get(name);
  const same = before?.failed === null && JSON.stringify(before.options) === JSON.stringify(options);
  if (before && same && !again.includes(name)) {
    rows.push(before);
    continue;
  }
  process.stderr.write(`${name} …\n`);
  const row = await measure(base, name, mechanism, options);
  rows.push(row);
  process.stderr.write(`  ${row.failed ?? `STS-B ${row.stsb!.toFixed(4)}, mails ${row.spam!.toFixed(3)}`}\n`);
  const rest = [...known.values()].filter((r) => !rows.some((done) => done.name === r.name));
  await save('attention.json', `${JSON.stringify({ rows: [...rows, ...rest] }, null, 2)}\n`);
}
await save('attention.json', `${JSON.stringify({ rows }, null, 2)}\n`);
await save('attention.md', attentionCard(rows));
process.exit(0);
