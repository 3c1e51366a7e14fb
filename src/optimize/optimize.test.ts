import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Model } from '../model/config.ts';
import { encode, type Weight } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { Dataset } from './data.ts';
import type { Measure } from './evaluate.ts';
import { type OptimizeOptions, type OptimizeServices, optimize } from './optimize.ts';
import { seeded } from './random.ts';
import { isMeasured } from './result.ts';

const C = 8;

function tinyModel(): Model {
  const weights = new Map<string, Weight>();
  const add = (name: string, shape: number[]) =>
    weights.set(
      name,
      encode(
        'float32',
        shape,
        Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i)),
      ),
    );
  add('embedding.word', [30, C]);
  for (const name of ['attention.query', 'attention.key', 'attention.value', 'attention.output']) {
    add(`layers.0.${name}.weight`, [C, C]);
    add(`layers.0.${name}.bias`, [C]);
  }
  for (const name of ['attention.norm', 'feedForward.norm']) {
    add(`layers.0.${name}.scale`, [C]);
    add(`layers.0.${name}.bias`, [C]);
  }
  add('layers.0.feedForward.up.weight', [16, C]);
  add('layers.0.feedForward.up.bias', [16]);
  add('layers.0.feedForward.down.weight', [C, 16]);
  add('layers.0.feedForward.down.bias', [C]);
  return {
    config: {
      architecture: 'bert',
      vocabularySize: 30,
      embeddingSize: C,
      maxLength: 512,
      positions: 0,
      tilePositions: false,
      tokenTypes: 0,
      wordScale: 1,
      embeddingNorm: false,
      norm: 'post',
      epsilon: 1e-12,
      layers: [
        {
          inputSize: C,
          outputSize: C,
          heads: 2,
          headSize: 4,
          feedForwardSize: 16,
          activation: 'gelu',
          attention: { kind: 'dense' },
        },
      ],
      head: { kind: 'embedding', pooling: 'mean', dense: false, normalize: true },
    },
    tokenizer: null,
    weights: { specs: weights, read: async (name) => weights.get(name)! },
    recipe: [],
    provenance: { from: 'a test' },
  };
}

const random = seeded(9);
const part = (n: number) =>
  Array.from({ length: n }, (_, i) => ({ text: `${'abc'[i % 3]} ${random()}`, label: 'abc'[i % 3] }));
const data: Dataset = {
  source: 'made',
  hash: 'h',
  rejected: [],
  kind: 'labels',
  train: part(60),
  test: part(45),
};

interface Fake {
  length?: number;
  crash?: string;
  nan?: string;
  onMeasure?: () => void;
}

/** Stands in for the formats and the runtime: an artifact is its recipe, and rows are told from the text's first letter. */
function fakes({ length = 12, crash, nan, onMeasure }: Fake = {}) {
  const measured: string[] = [];
  const measure: Measure = async (job, { signal } = {}) => {
    onMeasure?.();
    signal?.throwIfAborted();
    const { recipe, bytes } = JSON.parse(await readFile(job.artifact, 'utf8')) as {
      recipe: string;
      bytes: number;
    };
    measured.push(recipe);
    if (crash && recipe.includes(crash)) throw new AttenuateError('CANDIDATE_CRASHED', 'gone');
    const blur = recipe === '[]' ? 0 : 0.05;
    const rows = job.texts.flatMap((text, i) =>
      Array.from('abc', (letter) => (text[0] === letter ? 1 : 0) + (i % 4 === 0 ? blur : 0)),
    );
    if (nan && recipe.includes(nan)) rows[5] = NaN;
    if (job.vectors) await writeFile(job.vectors, new Uint8Array(Float32Array.from(rows).buffer));
    return {
      plannedPeakBytes: bytes * 2,
      measuredPeakBytes: bytes * 3,
      latencyMs: { median: bytes / 1000, p95: bytes / 900, samples: job.timed.length },
      lengths: job.texts.map(() => length),
      width: 3,
      info: {
        backend: 'wasm',
        level: 'simd128',
        dot: 'i16',
        fused: false,
        threads: 1,
        fallbacks: [],
        agreement: { state: 'no probe' },
      },
    };
  };
  const services: Partial<OptimizeServices> = {
    openModel: async () => tinyModel(),
    writeArtifact: async (model, path, { signal }) => {
      signal?.throwIfAborted();
      let bytes = 0;
      for (const name of model.weights.specs.keys()) bytes += (await model.weights.read(name)).bytes.length;
      const text = JSON.stringify({ recipe: JSON.stringify(model.recipe), bytes });
      await writeFile(path, text.padEnd(bytes));
    },
    measure,
  };
  return { services, measured };
}

describe('optimize', () => {
  let out: string;
  beforeEach(async () => {
    out = await mkdtemp(join(tmpdir(), 'attenuate-optimize-'));
  });
  afterEach(() => rm(out, { recursive: true, force: true }));

  const run = (services: Partial<OptimizeServices>, options: Partial<OptimizeOptions> = {}) =>
    optimize({ model: tinyModel(), name: 'tiny', data, out, ...options }, services);

  it('writes the artifact that was measured, and leaves no other', async () => {
    const { services } = fakes();
    const written: string[] = [];
    const card = await run({
      ...services,
      writeArtifact: (model, path, options) => {
        written.push(path);
        return services.writeArtifact!(model, path, options);
      },
    });
    // Every candidate once, and the float model again for the check of drift.
    expect(written).toHaveLength(card.rows.length + 1);
    expect(written).not.toContain(join(out, 'model.safetensors'));
    expect((await stat(join(out, 'model.safetensors'))).size).toBe(card.artifact!.sizeBytes);
    const left = await readdir(join(out, '.attenuate-work'));
    expect(left.filter((name) => name.endsWith('.safetensors'))).toEqual([]);
  });

  it('takes the smallest within a point when no limit is given, and writes it', async () => {
    const { services } = fakes();
    const card = await run(services);
    expect(card.rows.map(({ name }) => name)).toEqual(['float', 'int8', 'int4, int8 embeddings']);
    expect(card).toMatchObject({
      chosen: 'int4, int8 embeddings',
      refusal: null,
      goal: 'smallest',
      budget: { maxDrop: 0.01 },
    });
    const [float, int8, int4] = card.rows.filter(isMeasured);
    expect(float).toMatchObject({ drop: { value: 0, low: 0, high: 0 }, agreement: { value: 1 } });
    expect(float.metric).toMatchObject({ name: 'accuracy', value: 1, n: 45 });
    expect(int8).toMatchObject({ chosen: false, meetsBudget: true, latencyMs: { samples: 100 } });
    expect(int4).toMatchObject({ chosen: true, meetsBudget: true, pareto: true });
    expect(int4.sizeBytes).toBeLessThan(int8.sizeBytes);
    expect(int8.sizeBytes).toBeLessThan(float.sizeBytes / 2);
    expect(int8.energyMj.value).toBeLessThan(float.energyMj.value!);
    expect(int8.energyMj.provenance).toBe('estimated');
    expect(JSON.parse(await readFile(join(out, 'model.safetensors'), 'utf8')).recipe).toContain('quantize');
    expect(card.artifact).toEqual({ file: 'model.safetensors', sizeBytes: int4.sizeBytes });
    expect(card.drift?.ratio).toBe(1);
    expect(JSON.parse(JSON.stringify(card))).toEqual(card);
  });

  it('keeps the most accurate when a resource limit is given', async () => {
    const card = await run(fakes().services, { budget: { maxSizeBytes: 1e6 } });
    expect(card.goal).toBe('least-drop');
    expect(card.rows.filter(isMeasured).every(({ meetsBudget }) => meetsBudget)).toBe(true);
  });

  it('tries windows where texts are long enough', async () => {
    const card = await run(fakes({ length: 100 }).services);
    expect(card.rows.map(({ name }) => name)).toEqual([
      'float',
      'int8',
      'int4, int8 embeddings',
      'local(64)',
      'local(64) + int8',
    ]);
  });

  it('refuses honestly and writes nothing when no candidate fits', async () => {
    const card = await run(fakes().services, { budget: { maxSizeBytes: 100 } });
    expect(card.chosen).toBeNull();
    expect(card.artifact).toBeNull();
    expect(card.refusal).toMatch(/None of 3 candidates.*Nearest: int4, int8 embeddings \(size/);
    expect(await readdir(out)).toEqual(['.attenuate-work']);
  });

  it('loses only the candidate that fails', async () => {
    const crashed = await run(fakes({ crash: '"bits":8' }).services);
    expect(crashed.rows[1]).toMatchObject({ name: 'int8', failed: { code: 'CANDIDATE_CRASHED' } });
    expect(crashed.chosen).toBe('int4, int8 embeddings');
    const broken = await run(fakes({ nan: '"bits":4' }).services);
    expect(broken.rows[2]).toMatchObject({ failed: { code: 'OUTPUT_NOT_FINITE' } });
  });

  it('stops on abort with nothing half-written, and resumes to the same card', async () => {
    const controller = new AbortController();
    let count = 0;
    const stopping = fakes({
      onMeasure: () => {
        if (++count === 3) controller.abort(new Error('stopped'));
      },
    });
    await expect(run(stopping.services, { signal: controller.signal })).rejects.toThrow('stopped');
    expect(await readdir(out)).toEqual(['.attenuate-work']);
    const kept = await readdir(join(out, '.attenuate-work'));
    expect(kept.map((name) => name.replace(/^.*\./, '')).sort()).toEqual(['f32', 'json', 'json']);
    await writeFile(join(out, '.attenuate-work', `${kept[0]}.ab.tmp`), 'cut short');

    const resumed = fakes();
    const card = await run(resumed.services, { resume: true });
    // The one that was missing, and the float model once more for the drift.
    expect(resumed.measured).toHaveLength(2);
    expect(await readdir(join(out, '.attenuate-work'))).toHaveLength(4);
    const whole = await run(fakes().services);
    expect({ ...card, date: '' }).toEqual({ ...whole, date: '' });

    const again = fakes();
    await run(again.services, { resume: true, budget: { maxDrop: 0.5 } });
    expect(again.measured).toEqual([]);
    const other = fakes();
    await run(other.services, { resume: true, seed: 2 });
    expect(other.measured).toHaveLength(4);
  });

  it('tries the recipes that are asked for, alone and with int8, and says why one cannot be built', async () => {
    const local = { step: 'attention', kind: 'local', left: 2, right: 2 };
    const recipes = [
      { name: 'near', recipe: [local] },
      { name: 'small', recipe: [{ step: 'quantize', bits: 8 }, local] },
      { name: 'ninth', recipe: [{ ...local, layers: [9] }] },
    ];
    const card = await run(fakes({ length: 100 }).services, { recipes });
    expect(card.rows.map(({ name }) => name)).toEqual([
      'float',
      'int8',
      'int4, int8 embeddings',
      ...['near', 'small', 'ninth', 'near + int8', 'ninth + int8'],
    ]);
    expect(card.rows[3]).toMatchObject({ recipe: [{ ...local, layers: 'all' }] });
    expect(card.rows[5]).toMatchObject({ meetsBudget: false, failed: { code: 'LAYER_MISSING' } });
  });

  it('scores pairs by rank correlation', async () => {
    const pairs = ['ab', 'aa', 'bb', 'ca'].map(([first, second], i) => ({
      first: `${first} ${i}`,
      second: `${second} ${i}`,
      score: first === second ? 5 : 0,
    }));
    const card = await run(fakes().services, {
      data: { source: 'made', hash: 'p', rejected: [], kind: 'pairs', pairs },
    });
    expect(card.rows.filter(isMeasured)[0]).toMatchObject({
      metric: { name: 'spearman', value: 1, n: 4 },
      agreement: { kind: 'cosine', value: 1, n: 8 },
    });
  });

  it('refuses data that the head cannot answer', async () => {
    const model = tinyModel();
    const head = { kind: 'classification', labels: ['x', 'y'], poolerActivation: null } as const;
    const classifier = { ...model, config: { ...model.config, head } };
    await expect(run(fakes().services, { model: classifier })).rejects.toMatchObject({ code: 'DATA_LABELS' });
  });
});
