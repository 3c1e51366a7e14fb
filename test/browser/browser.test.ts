import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundlePageScript, bundleRuntime } from '../../scripts/bundle.ts';
import { optimize, parseBudget } from '../../src/optimize/index.ts';
import { load } from '../../src/runtime/index.ts';
import { madeLabelledText } from '../made-data.ts';
import { madeEncoder } from '../made-encoder.ts';
import { findChromium, launchChromium } from './chromium.ts';
import type { Done, Job } from './page/embed.ts';
import { type StaticServer, serve } from './server.ts';

const TOLERANCE = 1e-4;
const MODEL = '/model.safetensors';
const TEXTS = [
  'A small model runs in the page.',
  'the quick brown fox',
  '',
  'Node and the page alike, with every word known to it and a few that are not: zebra, xylophone.',
];

/** The artifact that `optimize` makes of a small encoder, small enough to lose its floats. */
async function optimized(): Promise<Uint8Array> {
  const folder = mkdtempSync(join(tmpdir(), 'attenuate-page-'));
  try {
    const data = join(folder, 'data.csv');
    writeFileSync(data, madeLabelledText());
    const card = await optimize({
      model: madeEncoder(),
      data,
      budget: parseBudget({ maxDrop: '0.5' }),
      out: join(folder, 'out'),
    });
    expect(card.chosen, 'a compressed candidate').not.toBe('float');
    return readFileSync(join(folder, 'out', card.artifact!.file));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const executable = findChromium();
if (!executable && process.env.CI === 'true')
  throw new Error('[browser test] no Chromium: expected one under CI, got none. Install it.');

describe.skipIf(!executable)(`a page in Chromium${executable ? '' : ' (skipped: none is installed)'}`, () => {
  let browser: Browser;
  let expected: Float32Array[];
  let own: ReadonlySet<string>;
  const servers = new Map<boolean, StaticServer>();

  beforeAll(async () => {
    const artifact = await optimized();
    const files = new Map<string, string | Uint8Array>([[MODEL, artifact]]);
    const pages = join(import.meta.dirname, 'page');
    files.set('/', readFileSync(join(pages, 'index.html'), 'utf8'));
    const scripts = [
      ...(await bundleRuntime()),
      ...(await bundlePageScript(join(pages, 'page.ts'), 'page')),
      ...(await bundlePageScript(join(pages, 'app-worker.ts'), 'app-worker')),
    ];
    for (const { name, bytes } of scripts) files.set(`/${name}`, bytes);
    own = new Set(files.keys());
    for (const isolated of [false, true]) servers.set(isolated, await serve(files, isolated));
    browser = await launchChromium(executable!);
    const model = await load(artifact, { threads: 1 });
    expected = await model.embed(TEXTS);
    model.dispose();
  }, 120_000);

  afterAll(async () => {
    await browser?.close();
    for (const server of servers.values()) await server.close();
  });

  async function open(isolated: boolean, job: Omit<Job, 'model' | 'texts'>) {
    const server = servers.get(isolated)!;
    server.takeRequests();
    const context = await browser.newContext();
    const page = await context.newPage();
    const complaints: string[] = [];
    const urls: string[] = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    context.on('request', (request) => urls.push(request.url()));
    const asked: Job = { ...job, model: MODEL, texts: TEXTS };
    await page.goto(`${server.origin}/#${encodeURIComponent(JSON.stringify(asked))}`);
    await page.locator('#result[data-state=done]').waitFor({ timeout: 20_000 });
    const said: Done | { error: string } = JSON.parse((await page.locator('#result').textContent())!);
    await context.close();
    const requests = server.takeRequests().filter((path) => path !== '/favicon.ico');
    return { said, complaints, requests, foreign: urls.filter((url) => !url.startsWith(server.origin)) };
  }

  const cases = [false, true].flatMap((isolated) =>
    [1, 2].flatMap((threads) => [false, true].map((inWorker) => ({ isolated, threads, inWorker }))),
  );

  it.each(cases)(
    'embeds as Node does: isolated $isolated, threads $threads, in a worker $inWorker',
    async ({ isolated, threads, inWorker }) => {
      const { said, complaints, requests, foreign } = await open(isolated, { threads, inWorker });
      if ('error' in said) throw new Error(`${said.error}\n${complaints.join('\n')}`);

      expect(complaints).toEqual([]);
      expect(said.isolated).toBe(isolated);
      const possible = isolated ? Math.min(threads, availableParallelism()) : 1;
      expect(said.threads).toBe(possible);
      // Two threads cannot be had without shared memory: that is said, never silent.
      expect(said.fallbacks.length > 0).toBe(threads > possible);
      expect(said.embeddings).toHaveLength(TEXTS.length);
      said.embeddings.forEach((row, i) => {
        expect(row).toHaveLength(expected[i].length);
        const worst = Math.max(...row.map((value, c) => Math.abs(value - expected[i][c])));
        expect(worst).toBeLessThan(TOLERANCE);
      });
      expect(said.memoryBytes).toBeGreaterThan(0);
      expect(said.afterDispose).toBe('DISPOSED');

      expect(foreign).toEqual([]);
      expect(requests.filter((path) => !own.has(path))).toEqual([]);
      expect(requests.filter((path) => path === MODEL)).toHaveLength(1);
    },
  );
});
