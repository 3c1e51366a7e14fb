import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { encodeArtifact } from '../src/format/index.ts';
import { findChromium, launchChromium } from '../test/browser/chromium.ts';
import { madeEncoder } from '../test/made-encoder.ts';

const folder = mkdtempSync(join(tmpdir(), 'attenuate-examples-'));
const artifact = join(folder, 'model.safetensors');
beforeAll(async () => writeFileSync(artifact, await encodeArtifact(madeEncoder())));
afterAll(() => rmSync(folder, { recursive: true }));

function example(name: string, args: readonly string[], input = ''): string {
  const script = join(import.meta.dirname, name);
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], {
    input,
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout;
}

it('search.ts finds the line that equals the question', () => {
  const lines = 'a small model\nthe quick brown fox\nevery word known\n';
  expect(example('search.ts', [artifact, 'the quick brown fox'], lines)).toMatch(
    /^1\.000 {2}the quick brown fox\n/,
  );
});

it('plan.ts shows exact sizes and a limit that is held', () => {
  const said = example('plan.ts', [artifact]);
  expect(said.match(/peakBytes: \d+/g)).toHaveLength(3);
  expect(said).toContain('refused: [');
});

it('stream.ts computes what changed, and what a fresh run gives', () => {
  const said = example('stream.ts', [artifact, 'a small model']);
  expect(said.match(/\d+ of \d+ rows: /g)).toHaveLength(3);
  expect(said).toContain('0 of 20 rows, as nothing changed');
  expect(said).toContain('equals a fresh run: true');
});

it.skipIf(!findChromium() && process.env.CI !== 'true')('browser/ answers in a page', async () => {
  const server = spawn(process.execPath, [join(import.meta.dirname, 'browser/serve.ts'), artifact]);
  try {
    const origin = await new Promise<string>((resolve, reject) => {
      server.stdout.on('data', (data) => resolve(String(data).match(/http:\S+/)![0]));
      server.stderr.on('data', (data) => reject(new Error(String(data))));
    });
    const browser = await launchChromium(findChromium()!);
    const page = await browser.newPage();
    await page.goto(origin);
    await page.getByText('ready').waitFor();
    await page.getByLabel('Question').fill('the quick brown fox');
    await page.getByLabel('Question').press('Enter');
    await page.getByText('the quick brown fox').waitFor();
    await browser.close();
  } finally {
    server.kill();
  }
});
