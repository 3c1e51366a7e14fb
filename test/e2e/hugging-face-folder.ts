import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Model } from '../../src/model/config.ts';
import { names } from '../../src/model/names.ts';

/** Canonical name → the name that a BERT checkpoint has; what is left over keeps its `.weight` or `.bias`. */
function checkpointNames(layers: number): Map<string, string> {
  const embeddings = 'embeddings';
  const map = new Map<string, string>([
    [names.word, `${embeddings}.word_embeddings.weight`],
    [names.position, `${embeddings}.position_embeddings.weight`],
    [names.tokenType, `${embeddings}.token_type_embeddings.weight`],
  ]);
  const norm = (from: string, to: string) => {
    map.set(`${from}.scale`, `${to}.weight`);
    map.set(`${from}.bias`, `${to}.bias`);
  };
  const linear = (from: string, to: string) => {
    map.set(`${from}.weight`, `${to}.weight`);
    map.set(`${from}.bias`, `${to}.bias`);
  };
  norm(names.embeddingNorm, `${embeddings}.LayerNorm`);
  for (let i = 0; i < layers; i++) {
    const at = names.layer(i);
    const layer = `encoder.layer.${i}`;
    linear(at.query, `${layer}.attention.self.query`);
    linear(at.key, `${layer}.attention.self.key`);
    linear(at.value, `${layer}.attention.self.value`);
    linear(at.output, `${layer}.attention.output.dense`);
    norm(at.attentionNorm, `${layer}.attention.output.LayerNorm`);
    linear(at.up, `${layer}.intermediate.dense`);
    linear(at.down, `${layer}.output.dense`);
    norm(at.feedForwardNorm, `${layer}.output.LayerNorm`);
  }
  return map;
}

/** Writes a float32 BERT encoder the way that a sentence encoder is published. */
export async function writeHuggingFaceFolder(folder: string, { config, tokenizer, weights }: Model) {
  if (tokenizer?.kind !== 'huggingface') throw new Error('the model has no tokenizer of that form');
  mkdirSync(join(folder, '1_Pooling'), { recursive: true });
  const [layer] = config.layers;
  const json = (file: string, value: unknown) => writeFileSync(join(folder, file), JSON.stringify(value));
  json('config.json', {
    architectures: ['BertModel'],
    model_type: 'bert',
    vocab_size: config.vocabularySize,
    hidden_size: config.embeddingSize,
    num_hidden_layers: config.layers.length,
    num_attention_heads: layer.heads,
    intermediate_size: layer.feedForwardSize,
    hidden_act: 'gelu',
    max_position_embeddings: config.positions,
    type_vocab_size: config.tokenTypes,
    layer_norm_eps: config.epsilon,
    position_embedding_type: 'absolute',
    pad_token_id: 0,
  });
  json('tokenizer.json', tokenizer.tokenizer);
  json('tokenizer_config.json', tokenizer.config);
  json('sentence_bert_config.json', { max_seq_length: config.maxLength, do_lower_case: false });
  json('modules.json', [
    { idx: 0, name: '0', path: '', type: 'sentence_transformers.models.Transformer' },
    { idx: 1, name: '1', path: '1_Pooling', type: 'sentence_transformers.models.Pooling' },
    { idx: 2, name: '2', path: '2_Normalize', type: 'sentence_transformers.models.Normalize' },
  ]);
  json('1_Pooling/config.json', {
    word_embedding_dimension: config.embeddingSize,
    pooling_mode_cls_token: false,
    pooling_mode_mean_tokens: true,
    pooling_mode_max_tokens: false,
    pooling_mode_mean_sqrt_len_tokens: false,
  });

  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const [name, published] of checkpointNames(config.layers.length)) {
    const { shape, bytes } = await weights.read(name);
    header[published] = { dtype: 'F32', shape, data_offsets: [offset, offset + bytes.length] };
    parts.push(bytes);
    offset += bytes.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const head = Buffer.concat([Buffer.alloc(8), text, Buffer.alloc((8 - (text.length % 8)) % 8, ' ')]);
  head.writeBigUInt64LE(BigInt(head.length - 8));
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([head, ...parts]));
}
