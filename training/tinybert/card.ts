import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { writeWhole } from '../../src/format/node/whole-file.ts';
import type { Figure } from './figures.ts';
import recipe from './recipe.json' with { type: 'json' };
import { ABLATION, ABLATION_EPOCHS, VARIANTS, type Variant } from './variants.ts';

/** `npm run card:tinybert`: the card of all runs that `train:tinybert` has measured so far. */
const at = (name: string) => fileURLToPath(new URL(`../../docs/cards/${name}`, import.meta.url));

const NAMES: Readonly<Record<string, { title: string; test: string; count: number }>> = {
  sst2: { title: 'SST-2', test: 'development set, 872 sentences', count: 872 },
  banking77: { title: 'banking77', test: 'test set, 3,080 questions, 77 intents', count: 3080 },
};

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const deviation = (values: readonly number[]): number =>
  Math.sqrt(mean(values.map((value) => (value - mean(values)) ** 2)) * (values.length / (values.length - 1)));

function accuracyCell(runs: readonly Figure[]): string {
  const values = runs.map(({ accuracy }) => accuracy);
  return values.length > 1
    ? `${mean(values).toFixed(4)} ± ${deviation(values).toFixed(4)}`
    : values[0].toFixed(4);
}

function line(title: string, runs: readonly Figure[], teacher: Figure): string {
  const share = mean(runs.map(({ accuracy }) => accuracy)) / teacher.accuracy;
  return `| ${[
    title,
    `${(mean(runs.map(({ bytes }) => bytes)) / 1e6).toFixed(2)} MB`,
    `${(teacher.bytes / mean(runs.map(({ bytes }) => bytes))).toFixed(1)}×`,
    accuracyCell(runs),
    `${(100 * share).toFixed(1)} %`,
    runs.length,
    mean(runs.map(({ minutes }) => minutes)).toFixed(1),
  ].join(' | ')} |`;
}

const HEAD = `| model | artifact | smaller than the teacher | accuracy | of the teacher's | seeds | minutes |
|---|---|---|---|---|---|---|`;

function part(task: string, runs: readonly Figure[]): string {
  const teacher = runs.find(({ variant }) => variant === 'teacher');
  if (!teacher) return '';
  const { title, test, count } = NAMES[task];
  const lines = (variants: readonly Variant[]) =>
    variants.flatMap((variant) => {
      const own = runs.filter((run) => run.variant === variant.name);
      return own.length ? [line(variant.title, own, teacher)] : [];
    });
  const ablation = lines(ABLATION);
  const error = Math.sqrt((teacher.accuracy * (1 - teacher.accuracy)) / count);
  return `## ${title}

Accuracy on the ${test}; one accuracy by itself has a standard error of about ${error.toFixed(3)}. Deviations are over seeds.

${HEAD}
${line('teacher: all six layers, fine-tuned, float32', [teacher], teacher)}
${lines(VARIANTS).join('\n')}
${
  ablation.length
    ? `
What each loss gives, in runs of ${ABLATION_EPOCHS} passes over the text, the first half of them on layers:

${HEAD}
${ablation.join('\n')}
`
    : ''
}`;
}

const { runs }: { runs: Figure[] } = JSON.parse(await readFile(at('tinybert.json'), 'utf8'));
const student = recipe[0] as { student: { layers: number; feedForwardSize: number } };
await writeWhole(at('tinybert.md'), [
  `# Distillation after TinyBERT: a teacher fine-tuned, a student of a ninth of its bytes

Written by \`npm run card:tinybert\` from the runs of \`npm run train:tinybert\`. The teacher is all-MiniLM-L6-v2 (six layers of 384) fine-tuned on the task's labels. The student keeps ${student.student.layers} layers and the ${student.student.feedForwardSize} neurons of each that do most, and learns from the teacher (Jiao et al. 2020) on the task's training text and as much again made of it by replacing words; it sees no label. Then it is stored in int8, its table in int4, its attention in int8. Every accuracy is that of the artifact as it runs.

The recommended recipe learns from the teacher's probabilities alone. TinyBERT's losses on layers (attention scores, hidden states, embeddings) are measured beside it: whole runs of as much time with half of the passes, and short runs with one loss left out each time.

\`\`\`json
${JSON.stringify(recipe, null, 2)}
\`\`\`

${Object.keys(NAMES)
  .map((task) =>
    part(
      task,
      runs.filter((run) => run.task === task),
    ),
  )
  .join('\n')}`,
]);
