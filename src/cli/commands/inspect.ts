import { formatAttention } from '../../compress/index.ts';
import type { EncoderConfig, Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/index.ts';
import { cost } from '../../program/cost.ts';
import { formatBytes } from '../../report/index.ts';
import type { MemoryPlan } from '../../runtime/types.ts';
import { byteSize, elements } from '../../tensor/codec.ts';
import { command, JSON_FLAG } from '../command.ts';
import { withLoaded, withModel } from '../local-model.ts';
import { factList, textTable } from '../table.ts';
import { lengthsFor } from '../values.ts';

interface CodecShare {
  codec: string;
  tensors: number;
  parameters: number;
  bytes: number;
}

interface KindCost {
  op: string;
  count: number;
  multiplyAdds: number;
  bytesMoved: number;
}

/** `attenuate inspect`: all that is known of a model before it runs. */
export const inspectCommand = command({
  name: 'inspect',
  description: 'Show configuration, parameters, memory plan by length and cost by op',
  args: {
    model: { type: 'positional', required: true, description: 'Artifact or model folder' },
    lengths: {
      type: 'string',
      valueHint: 'n,n,…',
      description: 'Token counts (default: 16,128,512 as far as the model goes)',
    },
    'tile-positions': {
      type: 'boolean',
      description: 'Allow lengths beyond the position table, for speed and memory only',
    },
    ...JSON_FLAG,
  },
  examples: [
    'attenuate inspect ./all-MiniLM-L6-v2',
    'attenuate inspect out/model.safetensors --lengths 16,64,256',
    'attenuate inspect out/model.safetensors --json',
  ],
  execute: (args, { signal }) =>
    withModel('inspect', args.model, async (model) => {
      const tilePositions = args['tile-positions'] === true;
      const { config, plans } = await withLoaded(model, { signal, tilePositions }, async (loaded) => {
        const lengths = lengthsFor('inspect', args.lengths, loaded.config.maxLength, [16, 128, 512]);
        return { config: loaded.config, plans: await loaded.plan(lengths) };
      });
      const codecs = byCodec(model);
      const costs = await Promise.all(
        plans.map(async ({ length }) => ({ length, byOp: await costByKind(config, model, length) })),
      );
      const { recipe, provenance } = model;
      const parameters = codecs.reduce((sum, share) => sum + share.parameters, 0);
      return {
        json: { config, parameters, codecs, memory: plans, cost: costs, recipe, provenance },
        text: [
          factList(configFacts(config, parameters)),
          codecTable(codecs),
          memoryTable(plans),
          ...costs.slice(-1).map(({ length, byOp }) => costTable(length, byOp)),
          factList([
            ['recipe', recipe.length ? JSON.stringify(recipe) : 'none: as it was published'],
            ...Object.entries(provenance).map(
              ([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)] as const,
            ),
          ]),
        ].join('\n\n'),
      };
    }),
});

function byCodec({ weights }: Model): CodecShare[] {
  const shares = new Map<string, CodecShare>();
  for (const spec of weights.specs.values()) {
    const share = shares.get(spec.codec) ?? { codec: spec.codec, tensors: 0, parameters: 0, bytes: 0 };
    share.tensors++;
    share.parameters += elements(spec.shape);
    share.bytes += byteSize(spec);
    shares.set(spec.codec, share);
  }
  return [...shares.values()].sort((a, b) => b.bytes - a.bytes);
}

/** Work by kind of op, integer products apart from float ones, heaviest first. */
async function costByKind(config: EncoderConfig, model: Model, length: number): Promise<KindCost[]> {
  const program = await traceEncoder(config, model.weights.specs);
  const kinds = new Map<string, KindCost>();
  cost(program, { B: 1, N: length, P: 1 }).byOp.forEach((op, i) => {
    const codec = op.kind === 'linear' ? ` ${program.nodes[i].parameters[0].codec}` : '';
    const name = `${op.kind}${codec}`;
    const kind = kinds.get(name) ?? { op: name, count: 0, multiplyAdds: 0, bytesMoved: 0 };
    kind.count++;
    kind.multiplyAdds += op.multiplyAdds;
    kind.bytesMoved += op.bytesRead + op.bytesWritten;
    kinds.set(name, kind);
  });
  return [...kinds.values()].sort((a, b) => b.multiplyAdds - a.multiplyAdds || b.bytesMoved - a.bytesMoved);
}

const whole = (n: number): string => Math.round(n).toLocaleString('en-US');

/** Equal neighbours once, with how many there are: `6 × dense`. */
function runs(values: readonly string[]): string {
  const out: [value: string, count: number][] = [];
  for (const value of values) {
    const last = out.at(-1);
    if (last?.[0] === value) last[1]++;
    else out.push([value, 1]);
  }
  return out.map(([value, count]) => `${count} × ${value}`).join(', ');
}

/** Which layers have which mechanism: `dense: 0, 3; local(left=64,right=64): 1, 2, 4, 5`. */
function attentionFacts(layers: EncoderConfig['layers']): string {
  const where = new Map<string, number[]>();
  layers.forEach(({ attention }, i) => {
    const text = formatAttention(attention);
    where.set(text, [...(where.get(text) ?? []), i]);
  });
  if (where.size === 1) return `${[...where.keys()][0]} in every layer`;
  return [...where].map(([text, at]) => `${text}: ${at.join(', ')}`).join('; ');
}

function configFacts(config: EncoderConfig, parameters: number): [string, string][] {
  const { head, layers } = config;
  const sizes = layers.map(
    (l) =>
      `${l.inputSize} → ${l.outputSize}, ${l.heads} heads of ${l.headSize}, feed-forward ${l.feedForwardSize}`,
  );
  const heads = {
    embedding: () =>
      head.kind === 'embedding'
        ? `embedding, ${head.pooling} pooling${head.normalize ? ', normalised' : ''}`
        : '',
    classification: () => (head.kind === 'classification' ? `classification: ${head.labels.join(', ')}` : ''),
    maskedToken: () => 'masked token',
  };
  return [
    ['architecture', config.architecture],
    ['parameters', whole(parameters)],
    ['layers', runs(sizes)],
    ['attention', attentionFacts(layers)],
    ['head', heads[head.kind]()],
    ['vocabulary', whole(config.vocabularySize)],
    ['longest text', `${whole(config.maxLength)} tokens`],
  ];
}

const codecTable = (codecs: readonly CodecShare[]): string =>
  textTable(
    ['codec', 'tensors', 'parameters', 'bytes'],
    codecs.map(({ codec, tensors, parameters, bytes }) => [
      codec,
      whole(tensors),
      whole(parameters),
      formatBytes(bytes),
    ]),
    [1, 2, 3],
  );

const memoryTable = (plans: readonly MemoryPlan[]): string =>
  textTable(
    ['tokens', 'weights', 'arena', 'scratch', 'peak (planned, batch 1)'],
    plans.map((plan) => [
      whole(plan.length),
      ...[plan.weightBytes, plan.arenaBytes, plan.scratchBytes, plan.peakBytes].map(formatBytes),
    ]),
    [0, 1, 2, 3, 4],
  );

const costTable = (length: number, kinds: readonly KindCost[]): string =>
  textTable(
    [`op at ${whole(length)} tokens`, 'count', 'multiply-adds', 'bytes moved'],
    [
      ...kinds.map((kind) => [
        kind.op,
        whole(kind.count),
        whole(kind.multiplyAdds),
        formatBytes(kind.bytesMoved),
      ]),
      [
        'total',
        whole(kinds.reduce((sum, kind) => sum + kind.count, 0)),
        whole(kinds.reduce((sum, kind) => sum + kind.multiplyAdds, 0)),
        formatBytes(kinds.reduce((sum, kind) => sum + kind.bytesMoved, 0)),
      ],
    ],
    [1, 2, 3],
  );
