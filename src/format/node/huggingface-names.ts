import type { EncoderConfig } from '../../model/config.ts';
import { names } from '../../model/names.ts';

/** Canonical weight name → name in a checkpoint, as the library that made the checkpoint writes it. */
export type NameTable = readonly (readonly [canonical: string, original: string])[];

const linear = (canonical: string, original: string): NameTable => [
  [`${canonical}.weight`, `${original}.weight`],
  [`${canonical}.bias`, `${original}.bias`],
];

const norm = (canonical: string, original: string): NameTable => [
  [`${canonical}.scale`, `${original}.weight`],
  [`${canonical}.bias`, `${original}.bias`],
];

/** The names of the encoder's own weights, without the prefix (`bert.`, `distilbert.`) that heads put in front. */
export function encoderNames(architecture: 'bert' | 'distilbert', layers: number): NameTable {
  const bert = architecture === 'bert';
  return [
    [names.word, 'embeddings.word_embeddings.weight'],
    [names.position, 'embeddings.position_embeddings.weight'],
    ...(bert ? ([[names.tokenType, 'embeddings.token_type_embeddings.weight']] as const) : []),
    ...norm(names.embeddingNorm, 'embeddings.LayerNorm'),
    ...Array.from({ length: layers }, (_, i) => (bert ? bertLayer(i) : distilbertLayer(i))).flat(),
  ];
}

function bertLayer(i: number): NameTable {
  const [to, from] = [names.layer(i), `encoder.layer.${i}`];
  return [
    ...linear(to.query, `${from}.attention.self.query`),
    ...linear(to.key, `${from}.attention.self.key`),
    ...linear(to.value, `${from}.attention.self.value`),
    ...linear(to.output, `${from}.attention.output.dense`),
    ...norm(to.attentionNorm, `${from}.attention.output.LayerNorm`),
    ...linear(to.up, `${from}.intermediate.dense`),
    ...linear(to.down, `${from}.output.dense`),
    ...norm(to.feedForwardNorm, `${from}.output.LayerNorm`),
  ];
}

function distilbertLayer(i: number): NameTable {
  const [to, from] = [names.layer(i), `transformer.layer.${i}`];
  return [
    ...linear(to.query, `${from}.attention.q_lin`),
    ...linear(to.key, `${from}.attention.k_lin`),
    ...linear(to.value, `${from}.attention.v_lin`),
    ...linear(to.output, `${from}.attention.out_lin`),
    ...norm(to.attentionNorm, `${from}.sa_layer_norm`),
    ...linear(to.up, `${from}.ffn.lin1`),
    ...linear(to.down, `${from}.ffn.lin2`),
    ...norm(to.feedForwardNorm, `${from}.output_layer_norm`),
  ];
}

/** The names of a head's weights in full; `encoder` is the prefix of the encoder's names in this checkpoint. */
export function headNames(
  architecture: 'bert' | 'distilbert',
  head: EncoderConfig['head']['kind'],
  encoder: string,
): NameTable {
  const to = names.head;
  if (head === 'embedding') return [];
  if (head === 'classification')
    return architecture === 'bert'
      ? [...linear(to.pooler, `${encoder}pooler.dense`), ...linear(to.classifier, 'classifier')]
      : [...linear(to.pooler, 'pre_classifier'), ...linear(to.classifier, 'classifier')];
  return architecture === 'bert'
    ? [
        ...linear(to.transform, 'cls.predictions.transform.dense'),
        ...norm(to.norm, 'cls.predictions.transform.LayerNorm'),
        [to.bias, 'cls.predictions.bias'],
      ]
    : [
        ...linear(to.transform, 'vocab_transform'),
        ...norm(to.norm, 'vocab_layer_norm'),
        [to.bias, 'vocab_projector.bias'],
      ];
}

/** Weights that checkpoints hold without this head's needing them: never a part of what it computes. */
export function isHarmless(original: string, head: EncoderConfig['head']['kind'], encoder: string): boolean {
  const name = original.startsWith(encoder) ? original.slice(encoder.length) : original;
  if (name === 'embeddings.position_ids' || name === 'embeddings.token_type_ids') return true;
  if (head === 'classification') return false;
  if (/^pooler\.dense\.(weight|bias)$/.test(name) || /^cls\.seq_relationship\./.test(name)) return true;
  return head === 'embedding' && /^(cls\.predictions\.|vocab_(transform|layer_norm|projector)\.)/.test(name);
}

/** Copies of other weights that a masked-token head may carry, and which weight each must equal. */
export const TIED: Readonly<Record<string, string>> = {
  'cls.predictions.decoder.weight': names.word,
  'cls.predictions.decoder.bias': names.head.bias,
  'vocab_projector.weight': names.word,
};
