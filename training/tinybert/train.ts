import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { underInterrupt } from '../../src/cli/interrupt.ts';
import { progressLine } from '../../src/cli/training.ts';
import { openModel } from '../../src/format/index.ts';
import { Figures } from './figures.ts';
import { makeStudent, makeTeacher, type RunOptions } from './run.ts';
import { TASKS } from './tasks.ts';
import { ABLATION, VARIANTS } from './variants.ts';

const ALL = [...VARIANTS, ...ABLATION];

/**
 * TinyBERT students of all-MiniLM-L6-v2: fine-tunes a teacher on a task, then makes students of it and measures them.
 * Runs that are known already are kept; stopped at any moment, a run goes on where it was.
 *
 * `npm run train:tinybert -- [--task banking77] [--variant distilled] [--seed 1]`, each of them more than once.
 */
const { values } = parseArgs({
  options: {
    task: { type: 'string', multiple: true, default: Object.keys(TASKS) },
    variant: { type: 'string', multiple: true, default: ALL.map(({ name }) => name) },
    seed: { type: 'string', multiple: true, default: ['1', '2', '3'] },
    encoder: { type: 'string', default: '../shared/models/all-MiniLM-L6-v2' },
    data: { type: 'string', default: '../shared/data' },
    work: { type: 'string', default: 'out/tinybert' },
    figures: {
      type: 'string',
      default: fileURLToPath(new URL('../../docs/cards/tinybert.json', import.meta.url)),
    },
  },
});

const line = (text: string) => process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);

await underInterrupt(async (signal) => {
  const figures = await Figures.open(values.figures);
  const measure = async (task: string, variant: string, options: RunOptions, make: () => Promise<object>) => {
    const key = { task, variant, seed: options.seed };
    if (figures.find(key)) return;
    const found = (await make()) as Omit<Parameters<typeof figures.add>[0], keyof typeof key>;
    await figures.add({ ...key, ...found });
    line(`${task}, ${variant}, seed ${options.seed}: ${JSON.stringify(found)}`);
  };
  for (const name of values.task) {
    const task = await TASKS[name](values.data);
    const folder = join(values.work, name);
    await mkdir(folder, { recursive: true });
    let said = 0;
    const options = (seed: number): RunOptions => ({
      task,
      seed,
      folder,
      signal,
      onProgress: (progress) => {
        if (performance.now() - said < 20_000) return;
        said = performance.now();
        line(`${name}: ${progressLine(progress)}`);
      },
    });
    await measure(name, 'teacher', options(1), async () =>
      makeTeacher(await openModel(values.encoder), options(1)),
    );
    for (const variant of ALL.filter((known) => values.variant.includes(known.name)))
      for (const seed of values.seed.map(Number))
        if (!variant.untrained || seed === 1)
          await measure(name, variant.name, options(seed), () => makeStudent(variant, options(seed)));
  }
});
