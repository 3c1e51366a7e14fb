import type { CardData } from '../optimize/result.ts';
import { energyProvenance } from './table.ts';
import { formatBytes, formatCount, formatMs, significant } from './units.ts';
import { budgetText } from './verdict.ts';

type Facts = readonly (readonly [name: string, words: string])[];

/** How each figure was taken: instruments, the energy of each row, and what the machine itself did meanwhile. */
export function instrumentFacts(card: CardData): Facts {
  const { instruments, drift } = card;
  return [
    ['size', `measured: ${instruments.size}`],
    ['peak memory', `measured: ${instruments.memory}`],
    [
      'planned peak',
      'computed before anything is allocated: the exact plan for the longest test text at batch 1, weights included',
    ],
    ['latency', `measured: ${instruments.latency}`],
    ['metric', `measured: ${instruments.metric}`],
    ['energy', instruments.energy],
    ...energyProvenance(card).map(({ rows, words }) => [`energy: ${rows}`, words] as const),
    [
      'drift',
      drift
        ? `the float model took ${formatMs(drift.startMedianMs)} at the start and ${formatMs(drift.endMedianMs)} at the end: the machine became ${significant(drift.ratio)} times as slow`
        : 'not measured',
    ],
  ];
}

/** What was measured, on what, where and when. */
export function runFacts(card: CardData): Facts {
  const { model, data, machine, artifact } = card;
  const classes = data.classes === undefined ? '' : `, ${formatCount(data.classes)} classes`;
  const rejected = data.rejectedRows ? `, ${formatCount(data.rejectedRows)} rows rejected` : '';
  const examples = data.kind === 'labels' ? 'labelled texts' : 'scored pairs';
  const { tokens } = data;
  return [
    [
      'model',
      `${model.name}: ${model.architecture}, ${model.layers} layers, ${formatCount(model.parameters)} parameters`,
    ],
    ['from', model.source],
    ['hash', model.hash],
    ...Object.entries(model.provenance).map(
      ([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)] as const,
    ),
    [
      'data',
      `${data.source}: ${examples}, ${formatCount(data.train)} to train on, ${formatCount(data.test)} to test on${classes}${rejected}`,
    ],
    ['method', data.method],
    [
      'lengths',
      `median ${formatCount(tokens.median)} tokens, 95th percentile ${formatCount(tokens.p95)}, longest ${formatCount(tokens.longest)}`,
    ],
    ...(data.calibration === undefined
      ? []
      : [
          [
            'calibration',
            `${formatCount(data.calibration)} texts, none of them measured on, for steps made from what the model sees`,
          ] as const,
        ]),
    ['data hash', data.hash],
    ...(data.notice ? ([['notice', data.notice]] as const) : []),
    ['budget', budgetText(card.budget)],
    ['artifact', artifact ? `${artifact.file}, ${formatBytes(artifact.sizeBytes)}` : 'none written'],
    [
      'machine',
      `${machine.cpu}, ${machine.cores} cores, ${formatBytes(machine.memoryBytes)} of memory; ${machine.os} (${machine.architecture}); ${machine.engine}`,
    ],
    ['date', `${card.date}, seed ${card.seed}`],
  ];
}
