import { machineProfile } from '../../device/profile.ts';
import { quantile } from '../../optimize/metrics.ts';
import { formatBytes, formatMs, significant } from '../../report/index.ts';
import type { BackendInfo, TextModel } from '../../runtime/types.ts';
import { type CommandContext, command, JSON_FLAG } from '../command.ts';
import { withLoaded, withModel } from '../local-model.ts';
import { textTable } from '../table.ts';
import { lengthsFor, wholeNumber, wholeNumbers } from '../values.ts';

/** One setting that is timed: a model with its threads, at one length. */
export interface Setting {
  readonly threads: number;
  readonly length: number;
  readonly samples: number[];
  run(): Promise<unknown>;
}

const LEAST_ROUNDS = 5;

/**
 * Times settings by turns, so that a machine that slows down does so for all alike; each round starts one further.
 * @param now milliseconds; tests bring their own clock
 */
export async function interleave(
  settings: readonly Setting[],
  milliseconds: number,
  { signal, progress }: Pick<CommandContext, 'signal' | 'progress'>,
  now: () => number = () => performance.now(),
): Promise<void> {
  for (const setting of settings) for (let i = 0; i < 3; i++) await setting.run();
  const start = now();
  for (let round = 0; round < LEAST_ROUNDS || now() - start < milliseconds; round++) {
    for (let i = 0; i < settings.length; i++) {
      signal.throwIfAborted();
      const setting = settings[(i + round) % settings.length];
      const from = now();
      await setting.run();
      setting.samples.push(now() - from);
    }
    progress.update((now() - start) / milliseconds, 'timing', `timing, round ${round + 1}`);
  }
}

/** Ids that look like no particular text; the same on every run. */
function madeIds(vocabulary: number, length: number): number[] {
  let state = 12345;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * vocabulary);
  });
}

/** `attenuate bench`: latency of one text by length and threads. */
export const benchCommand = command({
  name: 'bench',
  description: 'Measure latency by length and threads, settings interleaved',
  args: {
    model: { type: 'positional', required: true, description: 'Artifact or model folder' },
    lengths: {
      type: 'string',
      valueHint: 'n,n,…',
      description: 'Token counts (default: 16,128 as far as the model goes)',
    },
    threads: { type: 'string', valueHint: 'n,n,…', default: '1', description: 'Thread counts' },
    seconds: { type: 'string', valueHint: 'n', default: '5', description: 'How long to measure, in all' },
    'tile-positions': {
      type: 'boolean',
      description: 'Allow lengths beyond the position table, for speed and memory only',
    },
    ...JSON_FLAG,
  },
  examples: [
    'attenuate bench out/model.safetensors',
    'attenuate bench out/model.safetensors --lengths 16,128,512 --threads 1,2',
    'attenuate bench ./all-MiniLM-L6-v2 --seconds 20 --json',
  ],
  async execute(args, context) {
    const counts = wholeNumbers('bench', '--threads', args.threads);
    const seconds = wholeNumber('bench', '--seconds', args.seconds);
    const tilePositions = args['tile-positions'] === true;
    const { signal } = context;
    const loaded = new Map<number, TextModel>();
    /** Every model stays loaded while all are timed by turns. */
    const measure = async (rest: readonly number[]): Promise<Awaited<ReturnType<typeof timed>>> => {
      const [threads, ...others] = rest;
      if (threads === undefined) return timed(loaded, args.lengths, seconds * 1000, context);
      return withModel('bench', args.model, (model) =>
        withLoaded(model, { threads, tilePositions, signal }, (ready) => {
          loaded.set(threads, ready);
          return measure(others);
        }),
      );
    };
    const { rows, infos } = await measure(counts);
    const machine = machineProfile();
    const fallbacks = [...new Set(infos.flatMap((info) => info.fallbacks))];
    return {
      json: { model: args.model, machine, backends: infos, rows },
      text: [
        `${machine.cpu}, ${machine.engine}; ${infos[0].level}, dot ${infos[0].dot}`,
        ...fallbacks.map((words) => `fallback: ${words}`),
        '',
        textTable(
          ['tokens', 'threads', 'median', 'p95', 'samples', 'tokens/s', 'planned peak'],
          rows.map((row) => [
            String(row.length),
            String(row.threads),
            formatMs(row.medianMs),
            formatMs(row.p95Ms),
            String(row.samples),
            significant(row.tokensPerSecond),
            formatBytes(row.plannedPeakBytes),
          ]),
          [0, 1, 2, 3, 4, 5, 6],
        ),
      ].join('\n'),
    };
  },
});

interface BenchRow {
  readonly length: number;
  readonly threads: number;
  readonly medianMs: number;
  readonly p95Ms: number;
  readonly samples: number;
  readonly tokensPerSecond: number;
  readonly plannedPeakBytes: number;
}

async function timed(
  loaded: ReadonlyMap<number, TextModel>,
  asked: string | undefined,
  milliseconds: number,
  context: CommandContext,
): Promise<{ rows: BenchRow[]; infos: BackendInfo[] }> {
  const [{ config }] = loaded.values();
  const lengths = lengthsFor('bench', asked, config.maxLength, [16, 128]);
  const settings = lengths.flatMap((length) => {
    const ids = [madeIds(config.vocabularySize, length)];
    return [...loaded].map(([threads, model]) => ({
      ...{ threads, length, model, samples: [] as number[] },
      run: () => model.run(ids, { signal: context.signal }),
    }));
  });
  await interleave(settings, milliseconds, context);
  const rows: BenchRow[] = [];
  for (const { threads, length, model, samples } of settings) {
    const medianMs = quantile(samples, 0.5);
    const [{ peakBytes }] = await model.plan(length);
    rows.push({
      length,
      // What was had, which may be fewer than what was asked for.
      threads: Math.min(threads, model.info.threads),
      medianMs,
      p95Ms: quantile(samples, 0.95),
      samples: samples.length,
      tokensPerSecond: (length / medianMs) * 1000,
      plannedPeakBytes: peakBytes,
    });
  }
  return { rows, infos: [...loaded.values()].map(({ info }) => info) };
}
