import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../src/cli/cli.ts';
import { type CardData, isMeasured } from '../../src/optimize/result.ts';
import { madeLabelledText } from '../made-data.ts';
import { madeEncoder } from '../made-encoder.ts';
import { writeHuggingFaceFolder } from './hugging-face-folder.ts';

const folder = mkdtempSync(join(tmpdir(), 'attenuate-attention-'));
const at = (name: string) => join(folder, name);

async function attenuate(...argv: string[]) {
  let stdout = '';
  let stderr = '';
  const none = (async function* (): AsyncGenerator<string> {})();
  const io = {
    stdin: none,
    stdout: { write: (text: string) => (stdout += text) },
    stderr: { write: (text: string) => (stderr += text) },
  };
  const code = await runCli(argv, io, new AbortController().signal);
  return { code, stdout, said: stdout + stderr };
}

beforeAll(async () => {
  await writeHuggingFaceFolder(at('encoder'), madeEncoder());
  writeFileSync(at('data.csv'), madeLabelledText());
  writeFileSync(at('texts.txt'), 'a small model runs\n\nquick brown fox in the page\n');
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('attenuate apply', () => {
  it('builds an artifact whose layers inspect then names', async () => {
    const recipe = at('recipe.json');
    writeFileSync(recipe, '[{"step":"quantize","bits":8}]');
    const built = await attenuate(
      ...['apply', at('encoder'), '--attention', 'local(left=2,right=3)@[1]', '--recipe', recipe],
      ...['--calibrate', at('texts.txt'), '--out', at('applied'), '--json'],
    );
    expect(built.code, built.said).toBe(0);
    const { file, recipe: steps, weightBytes } = JSON.parse(built.stdout);
    expect(steps.map(({ step }: { step: string }) => step)).toEqual(['attention', 'quantize']);
    expect(weightBytes.after).toBeLessThan(weightBytes.before);
    const { stdout } = await attenuate('inspect', file);
    expect(stdout).toMatch(/attention +dense: 0; local\(left=2,right=3\): 1\n/);
    expect((await attenuate('run', file, 'embed', 'a fox')).code).toBe(0);
  });
});

describe('attenuate optimize --attention', () => {
  it('measures each, alone and with int8', { timeout: 180_000 }, async () => {
    const { code, said } = await attenuate(
      ...['optimize', at('encoder'), '--data', at('data.csv'), '--out', at('out'), '--max-drop', '0.5'],
      ...['--attention', 'local(left=4,right=4)@every2'],
    );
    expect(code, said).toBe(0);
    const card: CardData = JSON.parse(readFileSync(join(at('out'), 'card.json'), 'utf8'));
    const rows = card.rows.filter(isMeasured).map(({ name }) => name);
    expect(rows).toContain('local(left=4,right=4)@every2');
    expect(rows).toContain('local(left=4,right=4)@every2 + int8');
    expect(said).toContain('local(left=4,right=4)@every2 + int8');
    // 4 bits and smoothed 8 bits look at the training text.
    expect(card.data.calibration).toBeGreaterThan(0);
  });

  const cardOf = (out: string): CardData => JSON.parse(readFileSync(join(at(out), 'card.json'), 'utf8'));

  it('makes from the training text what is made from text; what refuses has its row', {
    timeout: 180_000,
  }, async () => {
    const { code, said } = await attenuate(
      ...['optimize', at('encoder'), '--data', at('data.csv'), '--out', at('made'), '--max-drop', '0.9'],
      ...['--attention', 'linformer(rank=8),grouped(groups=3)'],
    );
    expect(code, said).toBe(0);
    const { rows, data } = cardOf('made');
    const row = (name: string) => rows.find((each) => each.name === name)!;
    expect(isMeasured(row('linformer(rank=8)')) && isMeasured(row('linformer(rank=8) + int8')), said).toBe(
      true,
    );
    expect(row('grouped(groups=3)').failed).toMatchObject({ code: 'ATTENTION_REFUSED' });
    expect(data.calibration).toBeGreaterThan(10);
    expect(data.calibration).toBeLessThanOrEqual(data.train);
  });

  it('needs text beside pairs, all of which are measured on', { timeout: 180_000 }, async () => {
    const words = ['quick fox', 'brown fox', 'small model', 'node page', 'known word', 'every page'];
    const pairs = words.flatMap((a, i) => words.map((b, j) => `${a}\t${b}\t${i === j ? 5 : (i * j) % 4}`));
    writeFileSync(at('pairs.tsv'), `sentence1\tsentence2\tscore\n${pairs.join('\n')}\n`);
    const call = ['optimize', at('encoder'), '--data', at('pairs.tsv'), '--attention', 'synthesizer-random'];
    await attenuate(...call, '--out', at('without'), '--max-drop', '0.9');
    const failed = cardOf('without').rows.map((row) => row.failed?.code);
    expect(failed.slice(-2)).toEqual(['CALIBRATION_MISSING', 'CALIBRATION_MISSING']);
    await attenuate(...call, '--out', at('with'), '--max-drop', '0.9', '--calibrate', at('texts.txt'));
    expect(cardOf('with').rows.every(isMeasured)).toBe(true);
    expect(cardOf('with').data.calibration).toBe(2);
  });
});
