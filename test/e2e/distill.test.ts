import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../src/tensor/random.ts';
import { madeEncoder } from '../made-encoder.ts';
import { writeHuggingFaceFolder } from './hugging-face-folder.ts';

const folder = mkdtempSync(join(tmpdir(), 'attenuate-distill-'));
const at = (name: string) => join(folder, name);
const WORDS = 'a small model runs in the page and node alike with every word known to it'.split(' ');
const MAIN = resolve(import.meta.dirname, '../../src/cli/main.ts');

/** Runs the command in a process of its own; a time kills it there, without a warning. */
function run(argv: string[], killAfterMs?: number) {
  const child = spawn(process.execPath, ['--no-warnings', MAIN, ...argv]);
  let [stdout, said] = ['', ''];
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (said += data));
  const timer = killAfterMs && setTimeout(() => child.kill('SIGKILL'), killAfterMs);
  return new Promise<{ code: number | null; stdout: string; said: string }>((done) =>
    child.on('close', (code) => {
      clearTimeout(timer);
      done({ code, stdout, said });
    }),
  );
}

const distill = (out: string, more: string[], killAfterMs?: number) =>
  run(
    [
      ...['distill', at('encoder'), '--texts', at('texts.txt'), '--layers', '1,', '--fold', '--table', '16'],
      ...['--steps', '150', '--batch', '16', '--rate', '1e-3', '--json', '--out', at(out), ...more],
    ],
    killAfterMs,
  );

beforeAll(async () => {
  await writeHuggingFaceFolder(at('encoder'), madeEncoder());
  const random = new Random(6);
  const text = () => Array.from({ length: 3 + random.integer(9) }, () => WORDS[random.integer(WORDS.length)]);
  writeFileSync(at('texts.txt'), Array.from({ length: 400 }, () => text().join(' ')).join('\n'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('attenuate distill', () => {
  it('makes an artifact that a run killed at any point, and resumed, gives to the bit', async () => {
    const began = performance.now();
    const whole = await distill('whole', []);
    const took = performance.now() - began;
    expect(whole.code, whole.said).toBe(0);
    const random = new Random(Date.now());
    const kills = [0.3 + 0.3 * random.uniform(), 0.5 + 0.4 * random.uniform()];
    for (const part of kills) await distill('cut', ['--resume'], part * took);
    const { code, said } = await distill('cut', ['--resume']);
    expect(code, said).toBe(0);
    const file = (out: string) => readFileSync(at(`${out}/model.safetensors`));
    expect(file('cut').equals(file('whole')), `killed after ${kills} of ${took} ms`).toBe(true);
    const { heldOut } = JSON.parse(whole.stdout);
    expect(heldOut.at(-1).score).toBeLessThan(heldOut[0].score);
  });
});

it('attenuate finetune makes a classifier and measures it on what was held out', async () => {
  const random = new Random(9);
  const rows = Array.from({ length: 240 }, () => {
    const label = random.integer(2) ? 'node' : 'page';
    const words = Array.from({ length: 4 }, () => WORDS[random.integer(3)]);
    return `${[...words, label].join(' ')},${label}`;
  });
  writeFileSync(at('data.csv'), ['text,label', ...rows].join('\n'));
  const argv = ['finetune', at('encoder'), '--data', at('data.csv'), '--steps', '80', '--rate', '3e-3'];
  const limits = ['--train-memory', '4MB', '--accumulate', '2', '--wide'];
  const { code, stdout, said } = await run([...argv, ...limits, '--out', at('classifier'), '--json']);
  expect(code, said).toBe(0);
  const { memory } = JSON.parse(stdout);
  expect(Math.max(memory.plannedBytes, memory.measuredBytes)).toBeLessThanOrEqual(4e6);
  expect(JSON.parse(stdout)).toMatchObject({ train: 168, test: 72, accuracy: expect.any(Number) });
  expect(JSON.parse(stdout).accuracy).toBeGreaterThan(0.9);
  const student = await run([
    ...['distill', at('classifier/model.safetensors'), '--texts', at('texts.txt'), '--kind', 'layers'],
    ...['--layers', '1', '--steps', '20', '--batch', '16', '--out', at('student'), '--json'],
  ]);
  expect(student.code, student.said).toBe(0);
  expect(JSON.parse(student.stdout).recipe.map(({ step }: { step: string }) => step)).toEqual([
    'finetune',
    'distill',
  ]);
});
