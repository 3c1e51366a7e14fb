/** One step that loses something, and how it is trained back. */
export interface Loss {
  readonly name: string;
  readonly title: string;
  /** Which text it is trained on and judged by. */
  readonly on: 'sentences' | 'documents';
  readonly step: Readonly<Record<string, unknown>>;
  readonly recover: Readonly<Record<string, unknown>>;
}

const sentences = { teacher: 'int8', batch: 64, maxTokens: 48, heldOut: 0.02, evaluations: 6 } as const;
const documents = { teacher: 'int8', batch: 8, maxTokens: 256, heldOut: 0.02, evaluations: 5 } as const;

const codes = (name: string, title: string, step: object, recover: object): Loss => ({
  ...{ name, title, on: 'sentences' },
  step: { step: 'quantize', ...step },
  recover: { ...sentences, ...recover },
});

const attention = (name: string, step: object, recover: object = {}): Loss => ({
  ...{ name, title: `\`${name}\``, on: 'documents' },
  step: { step: 'attention', layers: 'all', ...step },
  recover: { ...documents, layers: 1, steps: 60, learningRate: 3e-4, ...recover },
});

export const LOSSES: readonly Loss[] = [
  codes(
    'int4',
    'int4 g128 everywhere, table too',
    { bits: 4, groupSize: 128, embeddings: 'int4-g128' },
    { steps: 400, learningRate: 5e-5 },
  ),
  codes(
    'ternary',
    'ternary g64, int4 table',
    { bits: 'ternary', ternary: 'twn', groupSize: 64, embeddings: 'int4-g32' },
    { steps: 250, learningRate: 5e-4, layers: 1 },
  ),
  attention('performer', { kind: 'performer' }),
  attention('linformer', { kind: 'linformer' }),
  attention('synthesizer-dense', { kind: 'synthesizer-dense' }),
  attention('synthesizer-random', { kind: 'synthesizer-random' }),
  codes(
    'binary',
    'binary g64, int4 table',
    { bits: 'binary', groupSize: 64, embeddings: 'int4-g32' },
    { steps: 250, learningRate: 5e-4, layers: 1 },
  ),
  attention('synthesizer-factorised', { kind: 'synthesizer-factorised' }),
  attention('hedgehog', { kind: 'hedgehog' }),
  attention('fast-weights', { kind: 'fast-weights' }),
  attention('spiking', { kind: 'spiking' }),
];
