import type { EncoderConfig } from '../src/model/config.ts';
import { formatBytes, formatMs } from '../src/report/index.ts';
import type { LogEntry } from '../src/train/log.ts';
import type { SourceCount } from './mini-en/corpus.ts';

/** What was measured of a model that this project trained; stands beside it as `figures.json`. */
export interface ModelFigures {
  readonly date: string;
  readonly machine: string;
  readonly bytes: number;
  readonly hash: string;
  /** Bytes of weights by how they are stored. */
  readonly weights: Readonly<Record<string, number>>;
  /** One thread, one text of `tokens`, tokenising included. */
  readonly latency: { readonly tokens: number; readonly medianMs: number; readonly p95Ms: number };
  /** Spearman's correlation on STS-B's development set, of the model, of its float form and of its teacher. */
  readonly stsb: {
    readonly model: number;
    readonly unquantised: number | null;
    readonly teacher: number | null;
  };
  readonly log: readonly LogEntry[];
}

/** What the artifact itself says. */
export interface CardModel {
  readonly config: EncoderConfig;
  readonly recipe: readonly unknown[];
  readonly provenance: Readonly<Record<string, unknown>>;
}

const score = (value: number | null): string => (value === null ? 'unavailable' : value.toFixed(4));

/** The card of a model that this project trained, in Markdown: every number is the artifact's or was measured. */
export function modelCard(name: string, command: string, model: CardModel, figures: ModelFigures): string {
  const { config, recipe, provenance } = model;
  const { teacher, texts } = provenance as {
    teacher: { name: string; licence: string };
    texts: { sources: readonly SourceCount[]; sha256: string };
  };
  const [layer] = config.layers;
  const held = figures.log.filter((entry) => entry.score !== undefined);
  const [first, last] = [held[0], held[held.length - 1]];
  const trained = figures.log.filter((entry) => entry.tokens !== undefined).at(-1);
  return [
    `# ${name}`,
    '',
    `Sentence embeddings of English text, ${config.embeddingSize} numbers of length 1, in one file of ${formatBytes(figures.bytes)}. Distilled from ${teacher.name} (${teacher.licence}) by \`${command}\`, on text without labels. Licence of the weights: Apache-2.0.`,
    '',
    '```ts',
    "import { load } from 'attenuate';",
    '',
    `const model = await load('models/${name}/model.safetensors');`,
    "const [row] = await model.embed(['The kitten rested on the rug.']);",
    '```',
    '',
    '## Figures',
    '',
    `Measured on ${figures.date}, ${figures.machine}, by \`npm run card:mini-en\`; \`npm run bench -- accuracy\` measures the correlation again.`,
    '',
    '| figure | value | provenance |',
    '|---|---|---|',
    `| file | ${formatBytes(figures.bytes)} (${figures.bytes.toLocaleString('en-US')} bytes) | measured |`,
    `| STS-B development set, Spearman | ${score(figures.stsb.model)} | measured |`,
    `| the same before quantising | ${score(figures.stsb.unquantised)} | measured |`,
    `| the same of the teacher | ${score(figures.stsb.teacher)} | measured |`,
    `| one text of ${figures.latency.tokens} tokens, one thread, median (p95) | ${formatMs(figures.latency.medianMs)} (${formatMs(figures.latency.p95Ms)}) | measured |`,
    `| mean cosine with the teacher on texts held out, float | ${last ? (1 - last.score).toFixed(4) : 'unavailable'} | measured |`,
    '',
    'No text of STS-B or of any test set was trained on. Which layers to keep was compared on a sample of STS-B’s training part; how long to train and how to quantise, by the texts held out; its development set was measured on, and nothing else.',
    '',
    '## Model',
    '',
    `${config.layers.length} layers of width ${layer.inputSize}, ${layer.heads} heads, feed-forward ${layer.feedForwardSize}; ${config.vocabularySize.toLocaleString('en-US')} WordPiece tokens${config.tableSize ? ` in a table of width ${config.tableSize}` : ''}; at most ${config.maxLength} tokens. Weights by how they are stored: ${Object.entries(
      figures.weights,
    )
      .map(([what, bytes]) => `${what} ${formatBytes(bytes)}`)
      .join(', ')}.`,
    '',
    'Made by this recipe, which the file carries:',
    '',
    '```json',
    JSON.stringify(recipe, null, 2),
    '```',
    '',
    '## Training',
    '',
    `${last?.step ?? 0} steps, ${(trained?.tokens ?? 0).toLocaleString('en-US')} tokens. 1 − cosine with the teacher on texts held out went from ${first ? first.score.toFixed(4) : '–'} at step ${first?.step ?? '–'} to ${last ? last.score.toFixed(4) : '–'}.`,
    '',
    '![Loss over the run](run.svg)',
    '',
    '## Text',
    '',
    'None of it is copied into this repository; packages bring it.',
    '',
    '| text | used | licence | from |',
    '|---|---|---|---|',
    ...texts.sources.map(
      (source) =>
        `| ${source.name} | ${source.texts.toLocaleString('en-US')} | ${source.licence} | ${source.origin} |`,
    ),
    '',
    `SHA-256 of all texts in order: \`${texts.sha256}\`. SHA-256 of the file’s data: \`${figures.hash}\`.`,
    '',
    '## Limits',
    '',
    '- English, and what its texts are like: definitions, mail, speeches, questions to a bank, everyday sentences. Names and terms that none of them holds rest on the teacher’s table alone.',
    '- Positions beyond 64 tokens were never trained: long texts are read, as bags of words.',
    '- It carries what its teacher learnt from web text, prejudices included.',
    '',
  ].join('\n');
}
