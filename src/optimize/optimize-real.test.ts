import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { memoryStore } from '../format/index.ts';
import type { LayerSpec, Model } from '../model/config.ts';
import { load, loadModel } from '../runtime/index.ts';
import { encode, type Weight } from '../tensor/codec.ts';
import type { Dataset } from './data.ts';
import { cosine } from './metrics.ts';
import { type OptimizeProgress, optimize } from './optimize.ts';
import { seeded } from './random.ts';
import { isMeasured } from './result.ts';

const C = 32;
const WORDS = ['▁apple', '▁pear', '▁plum', '▁iron', '▁gold', '▁zinc', '▁the', '▁and', '▁of', '▁a'];

/** A small encoder with random weights: nearly a bag of words, which is enough for two topics. */
function tinyEncoder(): Model {
  const random = seeded(4);
  const weights = new Map<string, Weight>();
  const add = (name: string, shape: number[], value: () => number) =>
    weights.set(
      name,
      encode('float32', shape, Float32Array.from({ length: shape.reduce((a, b) => a * b) }, value)),
    );
  const noise = (size: number) => () => (random() - 0.5) * size;
  const layer: LayerSpec = {
    inputSize: C,
    outputSize: C,
    heads: 2,
    headSize: C / 2,
    feedForwardSize: 2 * C,
    activation: 'gelu',
    attention: { kind: 'dense' },
  };
  add('embedding.word', [WORDS.length + 3, C], noise(2));
  for (const i of [0, 1]) {
    const at = `layers.${i}`;
    for (const part of ['query', 'key', 'value', 'output']) {
      add(`${at}.attention.${part}.weight`, [C, C], noise(0.3));
      add(`${at}.attention.${part}.bias`, [C], noise(0.1));
    }
    for (const norm of ['attention.norm', 'feedForward.norm']) {
      add(`${at}.${norm}.scale`, [C], () => 1);
      add(`${at}.${norm}.bias`, [C], () => 0);
    }
    add(`${at}.feedForward.up.weight`, [2 * C, C], noise(0.3));
    add(`${at}.feedForward.up.bias`, [2 * C], noise(0.1));
    add(`${at}.feedForward.down.weight`, [C, 2 * C], noise(0.3));
    add(`${at}.feedForward.down.bias`, [C], noise(0.1));
  }
  return {
    config: {
      architecture: 'use-lite',
      vocabularySize: WORDS.length + 3,
      embeddingSize: C,
      maxLength: 128,
      positions: 0,
      tilePositions: false,
      tokenTypes: 0,
      wordScale: 1,
      embeddingNorm: false,
      norm: 'post',
      epsilon: 1e-6,
      layers: [layer, layer],
      head: { kind: 'embedding', pooling: 'mean', dense: false, normalize: true },
    },
    tokenizer: {
      kind: 'unigram',
      vocabulary: [
        ['<unk>', 0],
        ['<s>', 0],
        ['</s>', 0],
        ...WORDS.map((word): [string, number] => [word, -1]),
      ],
      reserved: 3,
    },
    weights: memoryStore(weights),
    recipe: [],
    provenance: { source: 'made for a test' },
  };
}

function topics(n: number, seed: number) {
  const random = seeded(seed);
  const pick = (words: string[]) => words[Math.floor(random() * words.length)];
  return Array.from({ length: n }, (_, i) => {
    const words = WORDS.map((word) => word.slice(1));
    const own = i % 2 ? words.slice(0, 3) : words.slice(3, 6);
    const length = 2 + Math.floor(random() * 5);
    const text = Array.from({ length }, () => `${pick(words.slice(6))} ${pick(own)}`).join(' ');
    return { text, label: i % 2 ? 'fruit' : 'metal' };
  });
}

let out: string;
beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), 'attenuate-real-'));
});
afterAll(() => rm(out, { recursive: true, force: true }));

it('shrinks, measures and writes a real model that runs', async () => {
  const data: Dataset = {
    source: 'made',
    hash: 'topics',
    rejected: [],
    kind: 'labels',
    train: topics(80, 1),
    test: topics(60, 2),
  };
  const seen: OptimizeProgress[] = [];
  const options = { model: tinyEncoder(), name: 'tiny', data, out, budget: { maxDrop: 0.05 } };
  const card = await optimize({ ...options, onProgress: (p) => seen.push(p) });
  const rows = card.rows.filter(isMeasured);
  expect(rows.map(({ name }) => name)).toEqual([
    ...['float', 'int8', 'int8 smoothed', 'int4, int8 embeddings', 'int4'],
  ]);
  expect(rows[0].metric.value).toBeGreaterThan(0.9);
  for (const row of rows) {
    expect(row.latencyMs).toMatchObject({ samples: 100 });
    expect(row.latencyMs.median).toBeGreaterThan(0);
    expect(row.latencyMs.p95).toBeGreaterThanOrEqual(row.latencyMs.median);
    expect(row.plannedPeakBytes).toBeGreaterThan(0);
    expect(row.measuredPeakBytes).toBeGreaterThan(0);
    expect(row.agreement.value).toBeGreaterThan(0.9);
  }
  expect(card.chosen).toBe('int4');
  expect(rows[1].sizeBytes).toBeLessThan(rows[0].sizeBytes);
  expect(card.drift?.endMedianMs).toBeGreaterThan(0);
  expect(new Set(seen.map(({ stage }) => stage))).toEqual(
    new Set(['build', 'calibrate', 'load', 'time', 'run', 'score', 'drift', 'write']),
  );
  expect(seen.every(({ index, total, fraction }) => index < total && fraction >= 0 && fraction <= 1)).toBe(
    true,
  );
  expect((await readdir(out)).sort()).toEqual(['.attenuate-work', 'model.safetensors']);

  const model = await load(join(out, 'model.safetensors'));
  try {
    expect(model.recipe).toMatchObject([{ step: 'quantize', bits: 4, method: 'gptq' }]);
    const texts = data.kind === 'labels' ? data.test.map(({ text }) => text) : [];
    const float = await loadModel(options.model);
    const [small, full] = [await model.embed(texts), await float.embed(texts)];
    float.dispose();
    for (const [i, row] of small.entries()) expect(cosine(row, full[i])).toBeGreaterThan(0.98);
  } finally {
    model.dispose();
  }

  const again = await optimize({ ...options, resume: true });
  expect(again.rows).toEqual(card.rows);
  expect(again.drift).toBeNull();
}, 120_000);
