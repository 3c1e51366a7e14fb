import { openModel } from '../../format/index.ts';
import type { Model } from '../../model/config.ts';
import {
  type Explanation,
  explainModel,
  type OpTime,
  type Profile,
  rankingWidth,
  rankLosses,
} from '../../optimize/index.ts';
import { formatBytes, formatLoss, formatMs } from '../../report/index.ts';
import { command, JSON_FLAG, usageError } from '../command.ts';
import { localPath, withModel } from '../local-model.ts';
import { calibrationLines } from '../recipes.ts';
import { factList, textTable } from '../table.ts';
import { wholeNumber } from '../values.ts';

const DOTS = {
  u8: '8 × 8 bits in one instruction, all bits of both',
  s8: '8 × 8 bits in one instruction, both signed',
  u7: '8 × 7 bits in one instruction',
  i16: '8-bit codes multiplied as 16 bits',
} as const;
/** Weights that a ranking shows. */
const SHOWN = 12;

/** `attenuate explain`: why a model is as slow or as inaccurate here as it is, and what to try. */
export const explainCommand = command({
  name: 'explain',
  description: 'Say why a model is slow or inaccurate on this device, and what to try',
  args: {
    model: { type: 'positional', required: true, description: 'Artifact or model folder' },
    file: {
      type: 'string',
      valueHint: 'path',
      description:
        'Texts like those that the model will see, one a line: which weights lose most in fewer bits',
    },
    against: {
      type: 'string',
      valueHint: 'model',
      description: 'What the model was made from: where its outputs leave it (needs --file)',
    },
    length: {
      type: 'string',
      valueHint: 'n',
      description: 'Tokens to time (default: the median of the texts, or 128)',
    },
    ...JSON_FLAG,
  },
  examples: [
    'attenuate explain out/model.safetensors',
    'attenuate explain ./all-MiniLM-L6-v2 --file texts.txt',
    'attenuate explain out/model.safetensors --file texts.txt --against ./all-MiniLM-L6-v2 --json',
  ],
  execute: (args, { signal, progress }) =>
    withModel('explain', args.model, async (model) => {
      const texts = await calibrationLines('explain', args.file);
      const length = args.length === undefined ? undefined : wholeNumber('explain', '--length', args.length);
      if (length !== undefined && length > model.config.maxLength)
        throw usageError(
          'explain',
          `bad --length: expected at most ${model.config.maxLength} tokens, got ${length}.`,
        );
      if (args.against !== undefined && !texts)
        throw usageError('explain', '--against without text: expected --file too, got none.');
      const against: Model | undefined =
        args.against === undefined ? undefined : await openModel(localPath('explain', args.against));
      try {
        const found = await explainModel(model, {
          ...{ name: args.model, texts, length, against, signal },
          onProgress: (what, fraction) => progress.update(fraction, what),
        });
        return { json: found, text: explanationText(found) };
      } finally {
        await against?.weights.close?.();
      }
    }),
});

function explanationText(found: Explanation): string {
  const { profile, sensitivity, drift, advice } = found;
  return [
    factList(deviceFacts(found)),
    stageTable(found),
    opTable(profile),
    ...(sensitivity && sensitivity.units.length > 0 ? [lossTable(sensitivity)] : []),
    ...(drift
      ? [
          textTable(
            ['after', 'error against what it was made from'],
            drift.map(({ stage, error }) => [stage, formatLoss(error)]),
            [1],
          ),
        ]
      : []),
    advice.length === 0
      ? 'Nothing to try.'
      : [
          'What to try:',
          ...advice.flatMap(({ what, why, command }) => [
            `- ${what}: ${why}.`,
            ...(command === null ? [] : [`  ${command}`]),
          ]),
        ].join('\n'),
  ].join('\n\n');
}

function deviceFacts({ backend, tuned, weightBytes }: Explanation): [string, string][] {
  return [
    [
      'instructions',
      `${backend.level}${backend.fused ? ', fused multiply-add' : ', multiply and add apart'}`,
    ],
    ['products of codes', `dot ${backend.dot}: ${DOTS[backend.dot]}`],
    ['threads', String(backend.threads)],
    ['tiles', tuned ? 'found on this device' : 'those that do well on most devices'],
    ...backend.fallbacks.map((words) => ['fallback', words] as [string, string]),
    [
      'weights',
      Object.entries(weightBytes)
        .sort(([, a], [, b]) => b - a)
        .map(([codec, bytes]) => `${codec} ${formatBytes(bytes)}`)
        .join(', '),
    ],
  ];
}

const total = (ops: readonly OpTime[]): number =>
  ops.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
const percent = (part: number): string => `${(part * 100).toFixed(1)}%`;

function grouped(ops: readonly OpTime[], nameOf: (op: OpTime) => string): [name: string, ops: OpTime[]][] {
  const groups = new Map<string, OpTime[]>();
  for (const op of ops) groups.set(nameOf(op), [...(groups.get(nameOf(op)) ?? []), op]);
  return [...groups];
}

const stageTable = ({ profile, wholeMs }: Explanation): string => {
  const all = total(profile.ops);
  return textTable(
    [`stage, ${profile.length} tokens`, 'time', 'share'],
    [
      ...grouped(profile.ops, ({ stage }) => stage).map(([stage, ops]) => [
        stage,
        formatMs(total(ops)),
        percent(total(ops) / all),
      ]),
      ['all ops', formatMs(all), ''],
      ['one whole run', formatMs(wholeMs), ''],
    ],
    [1, 2],
  );
};

function opTable({ ops }: Profile): string {
  const all = total(ops);
  const rows = grouped(ops, ({ kind, codecs }) => [kind, ...codecs].join(' '))
    .sort(([, a], [, b]) => total(b) - total(a))
    .map(([name, some]) => {
      const work = some.reduce((sum, { multiplyAdds }) => sum + multiplyAdds, 0);
      // Each op's share counts as much as the time that it takes.
      const ceiling = some.every(({ ofCeiling }) => ofCeiling !== null)
        ? percent(some.reduce((sum, op) => sum + op.ofCeiling! * op.milliseconds, 0) / total(some))
        : '–';
      return [
        name,
        String(some.length),
        formatMs(total(some)),
        percent(total(some) / all),
        Math.round(work).toLocaleString('en-US'),
        ceiling,
      ];
    });
  return textTable(
    ['op', 'count', 'time', 'share', 'multiply-adds', 'of the ceiling'],
    rows,
    [1, 2, 3, 4, 5],
  );
}

function lossTable(sensitivity: NonNullable<Explanation['sensitivity']>): string {
  const width = rankingWidth(sensitivity);
  return textTable(
    [`what loses most in ${width}`, 'error of the output', 'share of all', 'its own error'],
    rankLosses(sensitivity, width)
      .slice(0, SHOWN)
      .map(({ weight, output, share, local }) => [
        weight,
        formatLoss(output),
        percent(share),
        formatLoss(local),
      ]),
    [1, 2, 3],
  );
}
