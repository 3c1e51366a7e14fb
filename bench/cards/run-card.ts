import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeWhole } from '../../src/format/node/whole-file.ts';

/** A card of measured rows: `docs/cards/<name>.json`, and `.md` beside it. */
export interface CardJob<Row extends { readonly name: string }> {
  readonly name: string;
  /** Names of all rows, in the card's order. */
  readonly rows: readonly string[];
  /** Whether a row that was measured before still is what would be measured now. */
  readonly isCurrent?: (row: Row) => boolean;
  /** One row; runs in a process of its own. */
  readonly measure: (name: string) => Promise<Row>;
  /** @param missing rows that are not measured yet */
  readonly markdown: (rows: readonly Row[], missing: readonly string[]) => string;
  /** A few words for the terminal. */
  readonly say: (row: Row) => string;
  /** What must be there before anything is measured: a message where it is not. */
  readonly ready?: () => Promise<string | null> | string | null;
  /** Rows that are measured at once. Default 1. */
  readonly workers?: number;
}

const FOLDER = fileURLToPath(new URL('../../docs/cards/', import.meta.url));

/**
 * Runs a card's command: `[-- --rows N] [NAME …]`. Rows that are known already are kept, so that an interrupted run goes
 * on; at most N are measured now, and `NAME …` are measured again.
 */
export async function runCard<Row extends { readonly name: string }>(job: CardJob<Row>): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { row: { type: 'string' }, rows: { type: 'string', default: 'Infinity' } },
  });
  if (values.row !== undefined) {
    const row = await job.measure(values.row);
    process.stdout.write(JSON.stringify(row), () => process.exit(0));
    return;
  }
  const missing = await job.ready?.();
  if (missing) {
    process.stderr.write(`[card] ${missing}\n`);
    process.exit(2);
  }
  await measureOpen(job, positionals, Number(values.rows));
}

async function measureOpen<Row extends { readonly name: string }>(
  job: CardJob<Row>,
  again: readonly string[],
  most: number,
): Promise<void> {
  await mkdir(FOLDER, { recursive: true });
  const file = join(FOLDER, `${job.name}.json`);
  const before: { rows: Row[] } = existsSync(file) ? JSON.parse(await readFile(file, 'utf8')) : { rows: [] };
  const rows = new Map(
    before.rows
      .filter((row) => !again.includes(row.name) && (job.isCurrent?.(row) ?? true))
      .map((row) => [row.name, row]),
  );
  const open = job.rows.filter((name) => !rows.has(name)).slice(0, most);
  const save = async () => {
    const known = job.rows.flatMap((name) => rows.get(name) ?? []);
    const left = job.rows.filter((name) => !rows.has(name));
    await writeWhole(file, [`${JSON.stringify({ rows: known }, null, 2)}\n`]);
    await writeWhole(join(FOLDER, `${job.name}.md`), [job.markdown(known, left)]);
  };
  const next = async (): Promise<void> => {
    for (let name = open.shift(); name !== undefined; name = open.shift()) {
      const row = await inChild<Row>(name);
      rows.set(name, row);
      process.stderr.write(`${name}: ${job.say(row)}; ${open.length} left\n`);
      await save();
    }
  };
  await Promise.all(Array.from({ length: job.workers ?? 1 }, next));
  await save();
}

function inChild<Row>(name: string): Promise<Row> {
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
