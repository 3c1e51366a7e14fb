import { mkdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { resolveMixed } from '../compress/quantize/mixed.ts';
import { machineProfile } from '../device/profile.ts';
import { writeArtifact } from '../format/index.ts';
import type { Model } from '../model/config.ts';
import {
  artifactBytes,
  findMixture,
  type MixtureLimits,
  type PrecisionReport,
  plannedPeak,
  type QuantizeMethod,
  readData,
  taskMetric,
  textContext,
  WorkFolder,
} from '../optimize/index.ts';
import { formatBytes, frontRows, precisionFacts, rankingRows, writePrecision } from '../report/index.ts';
import { elements } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { type CommandContext, type Outcome, usageError } from './command.ts';
import { factList, textTable } from './table.ts';

/** Tokens of the text that a peak is planned for. */
export const PLANNED_LENGTH = 128;

/** Writes a model to `model.safetensors` in a folder. */
export async function writeModel(
  model: Model,
  out: string,
  signal: AbortSignal,
): Promise<{ file: string; bytes: number; hash: string }> {
  await mkdir(out, { recursive: true });
  const file = join(out, 'model.safetensors');
  const { byteLength, hash } = await writeArtifact(model, file, { signal });
  return { file, bytes: byteLength, hash };
}

export interface MixedRequest {
  readonly limits: MixtureLimits;
  readonly method: QuantizeMethod;
  readonly keep: Record<string, string> | undefined;
  readonly texts: readonly string[];
  readonly widths: readonly string[] | undefined;
  readonly data: string | undefined;
  readonly out: string;
  readonly resume: boolean;
  readonly frontPoints: number;
  readonly seed: number;
}

/** Each weight as wide as it needs to be. */
export async function quantizeMixed(
  model: Model,
  source: string,
  request: MixedRequest,
  { signal, progress }: CommandContext,
): Promise<Outcome> {
  const { limits, method, keep, widths, out, seed, frontPoints } = request;
  if (request.texts.length === 0 && request.data === undefined)
    throw usageError(
      'quantize',
      'no text: expected --calibrate or --data with text like that which the model will see, got neither.',
    );
  const data = request.data === undefined ? null : await readData(request.data, { seed });
  const task =
    data &&
    taskMetric(
      data.kind === 'pairs'
        ? { kind: 'pairs', pairs: [...(data.train ?? []), ...data.pairs] }
        : { kind: 'labels', examples: [...data.train, ...data.test] },
      model.config,
      seed,
    );
  const texts = [...request.texts, ...(task?.texts ?? [])];
  const work = await WorkFolder.open(out, request.resume);
  try {
    const { model: built, ...found } = await findMixture(model, texts, {
      ...{ limits, method, widths, frontPoints, seed, kept: work, signal },
      ...(task && { task }),
      ...(keep && { fixed: resolveMixed(model.weights.specs, keep) }),
      context: textContext(texts, { cache: work.statistics, seed, signal }),
      onProgress: ({ stage, what, fraction }) => progress.update(fraction, `${stage}: ${what}`),
    });
    const written = await writeModel(built, out, signal);
    const report: PrecisionReport = {
      ...{ version: 1, model: aboutModel(model, source), machine: machineProfile(), limits, method },
      ...found,
      ...{ beforeBytes: artifactBytes(model), length: PLANNED_LENGTH, seed, date: new Date().toISOString() },
      peakBytes: found.peakBytes ?? (await plannedPeak(built, PLANNED_LENGTH)),
    };
    const files = await writePrecision(out, report);
    const table = ({ head, rows }: ReturnType<typeof rankingRows>) =>
      textTable(head, rows, head.map((_, i) => i).slice(1, -1));
    return {
      json: { ...written, ...report },
      text: [
        table(rankingRows(report)),
        ...(report.front.length > 1 ? [table(frontRows(report))] : []),
        factList([
          ...precisionFacts(report),
          ['artifact', `${written.file}, ${formatBytes(written.bytes)}`],
          ['report', `${files.html}, .md, .json`],
        ]),
      ].join('\n\n'),
    };
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new AttenuateError(
      'INTERRUPTED',
      '[quantize] interrupted: expected to run to the end, got a signal to stop. Finished measurements are kept; go on with --resume.',
      { out },
      { cause: error },
    );
  }
}

function aboutModel(model: Model, source: string): PrecisionReport['model'] {
  let parameters = 0;
  for (const { shape } of model.weights.specs.values()) parameters += elements(shape);
  const { architecture, layers } = model.config;
  return { name: basename(resolve(source)), source, architecture, layers: layers.length, parameters };
}
