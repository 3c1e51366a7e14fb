import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeArtifact } from '../src/format/index.ts';
import { load } from '../src/runtime/index.ts';
import { findChromium, launchChromium } from '../test/browser/chromium.ts';
import { madeLabelledText } from '../test/made-data.ts';
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

/** A page of an example, served and open. */
async function inPage(name: string, use: (page: Page) => Promise<void>): Promise<void> {
  const server = spawn(process.execPath, [join(import.meta.dirname, 'serve.ts'), name, artifact]);
  try {
    const origin = await new Promise<string>((resolve, reject) => {
      server.stdout.on('data', (data) => resolve(String(data).match(/http:\S+/)![0]));
      server.stderr.on('data', (data) => reject(new Error(String(data))));
    });
    const browser = await launchChromium(findChromium()!);
    const page = await browser.newPage();
    await page.goto(origin);
    await use(page);
    await browser.close();
  } finally {
    server.kill();
  }
}

describe.skipIf(!findChromium() && process.env.CI !== 'true')('in Chromium', () => {
  it('browser/ answers in a page', () =>
    inPage('browser', async (page) => {
      await page.getByText('ready').waitFor();
      await page.getByLabel('Question').fill('the quick brown fox');
      await page.getByLabel('Question').press('Enter');
      await page.getByText('the quick brown fox').waitFor();
    }));

  it('train-in-page/ trains, stops, and goes on in a page that is opened anew, to what an unbroken run gives', () =>
    inPage('train-in-page', async (page) => {
      const texts = madeLabelledText()
        .split('\n')
        .slice(1)
        .map((line) => line.split(',')[0]);
      const saved = async () => {
        const download = page.waitForEvent('download');
        await page.getByText('Save the trained model').click();
        return readFileSync(await (await download).path());
      };
      const train = async () => {
        await page.getByLabel('Text to train on').fill(texts.join('\n'));
        await page.getByRole('button', { name: 'Train' }).click();
      };
      await train();
      await page.getByText(/step \d{2,3} of 600/).waitFor();
      await page.getByRole('button', { name: 'Stop' }).click();
      await page.getByText('stopped').waitFor();
      await page.reload();
      const steps: string[] = [];
      await page.exposeFunction('seen', (text: string) => steps.push(text));
      await page.evaluate(() => {
        const state = document.querySelector('#state')!;
        const { seen } = globalThis as unknown as { seen(text: string): void };
        new MutationObserver(() => seen(state.textContent)).observe(state, { childList: true });
      });
      await train();
      await page.getByText('trained', { exact: true }).waitFor();
      expect(steps[0]).toMatch(/step \d{2,3} of 600/);
      const goneOn = await saved();
      await page.evaluate(async () => {
        const root = await navigator.storage.getDirectory();
        await root.removeEntry('train-in-page', { recursive: true });
      });
      await page.reload();
      await train();
      await page.getByText('trained', { exact: true }).waitFor();
      expect((await saved()).equals(goneOn)).toBe(true);
      const model = await load(goneOn, { threads: 1 });
      expect(model.config.layers).toHaveLength(1);
      model.dispose();
    }));
});
