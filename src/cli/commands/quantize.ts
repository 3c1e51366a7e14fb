import { applyRecipe, type RecipeStep } from '../../compress/index.ts';
import type { Model } from '../../model/config.ts';
import {
  artifactBytes,
  checkOutputs,
  type MixtureLimits,
  parseBudget,
  plannedPeak,
  textContext,
  WorkFolder,
} from '../../optimize/index.ts';
import { formatBytes, formatLoss } from '../../report/index.ts';
import { type CommandContext, command, JSON_FLAG, type Outcome, usageError } from '../command.ts';
import { withModel } from '../local-model.ts';
import { bitsOf, embeddingsOf, keptWidths, methodOf, widthList } from '../quantize-flags.ts';
import { PLANNED_LENGTH, quantizeMixed, writeModel } from '../quantize-mixed.ts';
import { CALIBRATE_FLAG, calibrationLines } from '../recipes.ts';
import { factList } from '../table.ts';
import { wholeNumber } from '../values.ts';

/** `attenuate quantize`: a model goes in; one with its weights in fewer bits comes out. */
export const quantizeCommand = command({
  name: 'quantize',
  description: 'Store weights in fewer bits: all alike, or each as wide as it needs to be within a limit',
  args: {
    model: { type: 'positional', required: true, description: 'Model folder or artifact' },
    bits: {
      type: 'string',
      valueHint: 'n',
      description: '16, 8, 4, 2, ternary, binary or mixed (default: 8, with a limit mixed)',
    },
    method: {
      type: 'string',
      valueHint: 'name',
      default: 'rtn',
      description: 'How codes are chosen: rtn, smoothquant, gptq or awq; all but rtn need --calibrate',
    },
    group: { type: 'string', valueHint: 'n', description: 'Columns that share a scale: 32, 64, 128 or row' },
    scheme: { type: 'string', valueHint: 'name', description: 'symmetric or affine' },
    embeddings: {
      type: 'string',
      valueHint: 'width',
      description: 'Width of the tables: 8 (default), 4, float, or one such as int4-g64',
    },
    keep: {
      type: 'string',
      valueHint: 'list',
      description: 'Widths by hand, such as "value=int8,/layers\\.0\\./=int4-g32,head=float32"',
    },
    'max-size': {
      type: 'string',
      valueHint: 'size',
      description: 'Largest file, such as 10MB; chooses widths',
    },
    'max-memory': {
      type: 'string',
      valueHint: 'size',
      description: `Highest planned peak of a text of ${PLANNED_LENGTH} tokens, such as 24MiB; chooses widths`,
    },
    'max-latency': {
      type: 'string',
      valueHint: 'time',
      description: 'Highest median latency of one text, such as 5ms; chooses widths',
    },
    widths: {
      type: 'string',
      valueHint: 'list',
      description: 'Widths to choose from, such as int8,int4-g32',
    },
    front: {
      type: 'string',
      valueHint: 'n',
      default: '0',
      description: 'Mixtures of other sizes to measure beside the chosen one',
    },
    calibrate: CALIBRATE_FLAG,
    data: {
      type: 'string',
      valueHint: 'file',
      description: 'Labelled text or scored pairs to search on (.csv, .tsv, .jsonl)',
    },
    out: { type: 'string', required: true, valueHint: 'folder', description: 'Where model.safetensors goes' },
    resume: { type: 'boolean', description: 'Go on with a search that was cut short' },
    seed: { type: 'string', valueHint: 'n', default: '1', description: 'Seed of samples' },
    ...JSON_FLAG,
  },
  examples: [
    'attenuate quantize ./all-MiniLM-L6-v2 --out out',
    'attenuate quantize ./all-MiniLM-L6-v2 --bits 4 --method gptq --calibrate texts.txt --embeddings 4 --out out',
    'attenuate quantize ./all-MiniLM-L6-v2 --max-size 10MB --calibrate texts.txt --out out',
    'attenuate quantize ./all-MiniLM-L6-v2 --bits 4 --keep "value=int8,down=int8" --out out',
    'attenuate quantize ./all-MiniLM-L6-v2 --max-size 10MB --calibrate texts.txt --front 5 --out out --resume',
  ],
  async execute(args, context) {
    const { maxSizeBytes, maxMemoryBytes, maxLatencyMs } = parseBudget({
      maxSize: args['max-size'],
      maxMemory: args['max-memory'],
      maxLatency: args['max-latency'],
    });
    const limits: MixtureLimits = {
      ...(maxSizeBytes !== undefined && { sizeBytes: maxSizeBytes }),
      ...(maxMemoryBytes !== undefined && { memoryBytes: maxMemoryBytes }),
      ...(maxLatencyMs !== undefined && { latencyMs: maxLatencyMs }),
    };
    const limited = Object.keys(limits).length > 0;
    const bits = args.bits ?? (limited ? 'mixed' : '8');
    const method = methodOf('quantize', args.method);
    const keep = keptWidths('quantize', args.keep);
    const texts = await calibrationLines('quantize', args.calibrate);
    if (bits === 'mixed') {
      if (!limited)
        throw usageError(
          'quantize',
          'nothing to keep: expected --max-size, --max-memory or --max-latency with --bits mixed, got none.',
        );
      const fixed = ['group', 'scheme', 'embeddings'].find((flag) => args[flag as 'group'] !== undefined);
      if (fixed)
        throw usageError(
          'quantize',
          `--${fixed} with --bits mixed: expected --widths or --keep to say what widths there are, got --${fixed}.`,
        );
      const request = {
        ...{ limits, method, keep, texts: texts ?? [], widths: widthList('quantize', args.widths) },
        ...{ data: args.data, out: args.out, resume: args.resume === true },
        frontPoints: wholeNumber('quantize', '--front', args.front, 0),
        seed: wholeNumber('quantize', '--seed', args.seed, 0),
      };
      return withModel('quantize', args.model, (model) => quantizeMixed(model, args.model, request, context));
    }
    if (limited)
      throw usageError(
        'quantize',
        `a limit with --bits ${bits}: expected --bits mixed, which chooses widths, got ${bits}.`,
      );
    const group =
      args.group === undefined || args.group === 'row'
        ? args.group
        : wholeNumber('quantize', '--group', args.group);
    const step = {
      ...{ step: 'quantize', bits: bitsOf('quantize', bits), method },
      ...(group !== undefined && { groupSize: group }),
      ...(args.scheme !== undefined && { scheme: args.scheme }),
      ...(args.embeddings !== undefined && { embeddings: embeddingsOf('quantize', args.embeddings) }),
      ...(keep && { mixed: keep }),
    };
    return withModel('quantize', args.model, (model) => uniform(model, step, texts ?? [], args.out, context));
  },
});

/** One width for all, or what is said by hand. */
async function uniform(
  model: Model,
  step: RecipeStep,
  texts: readonly string[],
  out: string,
  { signal, progress }: CommandContext,
): Promise<Outcome> {
  const work = await WorkFolder.open(out, true);
  const built = await applyRecipe(
    model,
    [step],
    textContext(texts, {
      ...{ cache: work.statistics, signal },
      onProgress: (what, fraction) => progress.update(fraction * 0.8, what),
    }),
  );
  progress.update(0.8, 'write');
  const written = await writeModel(built, out, signal);
  progress.update(0.9, 'check');
  const outputs = texts.length > 0 ? await checkOutputs(model, built, texts, { signal }) : null;
  const peakBytes = await plannedPeak(built, PLANNED_LENGTH);
  const applied = built.recipe[model.recipe.length];
  const before = artifactBytes(model);
  return {
    json: { ...written, beforeBytes: before, peakBytes, length: PLANNED_LENGTH, step: applied, outputs },
    text: factList([
      ['artifact', `${written.file}, ${formatBytes(written.bytes)} (before: ${formatBytes(before)})`],
      [
        'peak memory',
        `${formatBytes(peakBytes)} for one text of ${PLANNED_LENGTH} tokens, weights included; exact plan`,
      ],
      [
        'error of the output',
        outputs
          ? `${formatLoss(outputs.output)} on ${outputs.texts} texts; measured`
          : 'not measured: give text with --calibrate',
      ],
      ['step', JSON.stringify(applied)],
    ]),
  };
}
