import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CardData, isMeasured } from '../../src/optimize/result.ts';
import { load } from '../../src/runtime/index.ts';
import { madeLabelledText } from '../made-data.ts';
import { madeEncoder } from '../made-encoder.ts';
import { writeHuggingFaceFolder } from './hugging-face-folder.ts';

const MAIN = resolve(import.meta.dirname, '../../src/cli/main.ts');
const folder = mkdtempSync(join(tmpdir(), 'attenuate-e2e-'));
const model = join(folder, 'encoder');
const data = join(folder, 'data.csv');

function attenuate(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    cwd: folder,
    encoding: 'utf8',
  });
  return { status, stdout, said: `${stdout}${stderr}` };
}

beforeAll(async () => {
  await writeHuggingFaceFolder(model, madeEncoder());
  writeFileSync(data, madeLabelledText());
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('attenuate optimize, from a published folder to an artifact that runs', () => {
  const out = join(folder, 'out');

  it('writes an artifact and its card, and nothing half-done', { timeout: 180_000 }, async () => {
    const { status, said } = attenuate('optimize', model, '--data', data, '--out', out, '--max-drop', '0.2');
    expect(status, said).toBe(0);

    const card: CardData = JSON.parse(readFileSync(join(out, 'card.json'), 'utf8'));
    const rows = card.rows.filter(isMeasured);
    expect(rows.length, said).toBeGreaterThan(1);
    const chosen = rows.find((row) => row.chosen)!;
    expect(chosen.name).toBe(card.chosen);
    expect(chosen.drop.value).toBeLessThanOrEqual(0.2);
    expect(rows[0].metric.value).toBeGreaterThan(0.8);
    for (const row of rows) expect(row.energyMj.provenance).not.toBe('measured');

    const artifact = join(out, card.artifact!.file);
    expect(statSync(artifact).size).toBe(card.artifact!.sizeBytes);
    expect(statSync(artifact).size).toBe(chosen.sizeBytes);
    const html = readFileSync(join(out, 'card.html'), 'utf8');
    expect(html).not.toMatch(/(?:src|href)=["']?https?:/);
    expect(readFileSync(join(out, 'card.md'), 'utf8')).toContain(chosen.name);
    expect(readdirSync(out).filter((file) => /\.(tmp|partial)/.test(file))).toEqual([]);

    const small = await load(artifact);
    const [row] = await small.embed(['the quick brown fox']);
    small.dispose();
    expect(Math.hypot(...row)).toBeCloseTo(1, 4);
  });

  it('refuses a budget that cannot be met and names what came nearest', { timeout: 180_000 }, () => {
    const tight = ['--max-size', '1KB', '--max-drop', '0.2'];
    const { status, said } = attenuate(
      ...['optimize', model, '--data', data, '--out', join(folder, 'none')],
      ...tight,
    );
    expect(status).not.toBe(0);
    expect(said).toMatch(/nearest/i);
  });

  it('refuses an architecture that it does not know, by name', () => {
    const other = join(folder, 'other');
    cpSync(model, other, { recursive: true });
    const config = JSON.parse(readFileSync(join(other, 'config.json'), 'utf8'));
    const changed = { ...config, model_type: 'gpt2', architectures: ['GPT2Model'] };
    writeFileSync(join(other, 'config.json'), JSON.stringify(changed));
    const { status, said } = attenuate('inspect', other);
    expect(status).not.toBe(0);
    expect(said).toMatch(/gpt2/i);
    expect(said).not.toMatch(/^\s+at /m);
  });
});
