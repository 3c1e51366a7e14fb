import { analyseLayer, type LayerReport } from '../../attention/analyse/layer.ts';
import { formatAttention } from '../../compress/index.ts';
import { calibrationFrom } from '../../optimize/index.ts';
import { command, JSON_FLAG, usageError } from '../command.ts';
import { withModel } from '../local-model.ts';
import { textTable } from '../table.ts';
import { readTexts } from '../texts.ts';

const percent = (x: number): string => `${(100 * x).toFixed(0)}%`;

function headTable(reports: readonly LayerReport[]): string {
  const rows = reports.flatMap(({ layer, heads }) =>
    heads.map((head) => [
      `${layer}`,
      `${head.head}`,
      head.entropy.toFixed(2),
      head.effectiveKeys.toFixed(1),
      head.meanDistance.toFixed(1),
      head.span90.toFixed(1),
      percent(head.kept['local(16)']),
      percent(head.kept['local(64)']),
      percent(head.kept['local(64)+first']),
      percent(head.sparse90),
    ]),
  );
  const head = [
    'layer',
    'head',
    'entropy',
    'keys',
    'distance',
    'span of 90%',
    'local(16)',
    'local(64)',
    'local(64)+first',
    'keys for 90%',
  ];
  return textTable(
    head,
    rows,
    head.map((_, i) => i),
  );
}

const layerTable = (reports: readonly LayerReport[]): string =>
  textTable(
    ['layer', 'Performer, 256 features', 'suggestion', 'why'],
    reports.map(({ layer, performer, suggestion }) => {
      return [
        `${layer}`,
        `${performer.usable ? 'usable' : 'UNUSABLE'}, error ×${performer.relativeError.toPrecision(2)}`,
        formatAttention(suggestion.attention),
        suggestion.why,
      ];
    }),
  );

/** `attenuate attention`: where each head looks on the user's text, and which mechanism fits. */
export const attentionCommand = command({
  name: 'attention',
  description: 'Show where each head looks on your text, and which attention mechanism fits each layer',
  args: {
    model: { type: 'positional', required: true, description: 'Artifact or model folder' },
    file: {
      type: 'string',
      valueHint: 'path',
      description: 'Texts, one a line; - or nothing reads standard input',
    },
    ...JSON_FLAG,
  },
  rest: true,
  examples: [
    'attenuate attention ./all-MiniLM-L6-v2 "a text like those that the model will see"',
    'attenuate attention ./all-MiniLM-L6-v2 --file documents.txt',
    'attenuate attention out/model.safetensors --file documents.txt --json',
  ],
  execute: (args, { io, signal, progress }) =>
    withModel('attention', args.model, async (model) => {
      const texts = await readTexts('attention', { texts: args._.slice(1), file: args.file }, io);
      const calibration = await calibrationFrom(model, texts, { signal });
      if (model.config.layers.length === 0) throw usageError('attention', 'model without a layer.');
      const reports: LayerReport[] = [];
      for (let layer = 0; layer < model.config.layers.length; layer++) {
        progress.update(layer / model.config.layers.length, `layer ${layer}`);
        reports.push(await analyseLayer(calibration, layer));
      }
      progress.clear();
      const { meanLength } = reports[0];
      return {
        json: { texts: calibration.sequences, meanLength, layers: reports },
        text: [
          `${calibration.sequences} ${calibration.sequences === 1 ? 'text' : 'texts'} of ${meanLength.toFixed(0)} tokens in mean`,
          headTable(reports),
          layerTable(reports),
        ].join('\n\n'),
      };
    }),
});
