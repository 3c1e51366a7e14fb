import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import type { EncoderConfig, Model } from '../model/config.ts';
import { encode, sections, specOf, type Weight, type WeightSpec } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { openArtifact } from './artifact.ts';
import { encodeArtifact } from './artifact-layout.ts';
import { bytesSource, responseSource } from './byte-source.ts';
import { memoryStore } from './memory-store.ts';
import { writeArtifact } from './node/artifact-writer.ts';
import { openModel } from './node/open.ts';
import { encodeValues, type Probe } from './probe.ts';

const folder = mkdtempSync(join(tmpdir(), 'attenuate-artifact-'));
afterAll(() => rmSync(folder, { recursive: true }));

const config: EncoderConfig = {
  architecture: 'bert',
  vocabularySize: 5,
  embeddingSize: 3,
  maxLength: 8,
  positions: 8,
  tilePositions: false,
  tokenTypes: 0,
  wordScale: 1,
  embeddingNorm: true,
  norm: 'post',
  epsilon: 1e-12,
  layers: [
    {
      inputSize: 3,
      outputSize: 3,
      heads: 1,
      headSize: 3,
      feedForwardSize: 4,
      activation: 'gelu',
      attention: { kind: 'local', left: 2, right: 0 },
    },
  ],
  head: { kind: 'classification', labels: ['no', 'ja'], poolerActivation: null },
};
const floats = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i + 1));
const weights = new Map<string, Weight>([
  ['z', encode('int8', [5, 3], floats(15))],
  ['__proto__', encode('float32', [3], floats(3))],
  ['half', encode('float16', [1, 3], floats(3))],
  ['brain', { codec: 'bfloat16', shape: [2], bytes: Uint8Array.of(128, 63, 0, 64) }],
  ['rows', encode('int4', [2, 3], floats(6))],
  ['groups', encode({ codec: 'int4', shape: [2, 64], groupSize: 32, scheme: 'affine' }, floats(128))],
  ['pairs', encode({ codec: 'int2', shape: [3, 32], scaleType: 'float32' }, floats(96))],
  ['signs', encode('binary', [2, 11], floats(22))],
  ['three', encode({ codec: 'ternary', shape: [2, 2, 32], groupSize: 32 }, floats(128))],
  ['one scale', encode({ codec: 'int8', shape: [2, 5], perTensor: true, scaleType: 'float16' }, floats(10))],
  ['big', encode('float32', [300_000], floats(300_000))],
]);
const model = (changes: Partial<Model> = {}): Model => ({
  config,
  tokenizer: {
    kind: 'unigram',
    vocabulary: [
      ['�', 0],
      ['▁', -1],
    ],
    reserved: 1,
  },
  weights: memoryStore(weights),
  recipe: [{ step: 'quantize', options: { codec: 'int8' } }],
  provenance: { name: 'made up' },
  ...changes,
});
const sectionBytes = (spec: WeightSpec) => sections(spec).reduce((n, { byteLength }) => n + byteLength, 0);
const small = () => model({ weights: memoryStore(new Map([...weights].filter(([name]) => name !== 'big'))) });
const open = (bytes: Uint8Array) => openArtifact(bytesSource(bytes));

async function gather(artifact: Model, signal?: AbortSignal): Promise<Map<string, Uint8Array>> {
  const out = new Map<string, Uint8Array>();
  for (const [name] of artifact.weights.specs) out.set(name, new Uint8Array(weights.get(name)!.bytes.length));
  for await (const { name, offset, bytes } of artifact.weights.stream!(signal))
    out.get(name)!.set(bytes, offset);
  return out;
}

/** The same bytes with one metadata entry replaced, everything else as the writer left it. */
function edited(bytes: Uint8Array, key: string, change: (value: never) => unknown): Uint8Array {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const metadata = header.__metadata__;
  const text = metadata[key];
  const value = change((key === 'format' ? text : JSON.parse(text)) as never);
  if (value === undefined) delete metadata[key];
  else metadata[key] = key === 'format' ? value : JSON.stringify(value);
  const json = new TextEncoder().encode(JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + bytes.length - 8 - length);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  out.set(bytes.subarray(8 + length), 8 + json.length);
  return out;
}

describe('an artifact', () => {
  it('gives back the model, by name and in one pass', async () => {
    const artifact = await open(await encodeArtifact(model()));
    const { config: c, tokenizer, recipe, provenance } = artifact;
    expect({ config: c, tokenizer, recipe, provenance }).toEqual({
      config,
      tokenizer: model().tokenizer,
      recipe: model().recipe,
      provenance: model().provenance,
    });
    expect([...artifact.weights.specs.keys()].sort()).toEqual([...weights.keys()].sort());
    const streamed = await gather(artifact);
    for (const [name, weight] of weights) {
      const { bytes, ...spec } = await artifact.weights.read(name);
      expect(spec).toEqual(specOf(weight));
      expect(Buffer.compare(bytes, weight.bytes)).toBe(0);
      expect(Buffer.compare(streamed.get(name)!, weight.bytes)).toBe(0);
    }
    await expect(artifact.weights.read('none')).rejects.toMatchObject({ code: 'WEIGHT_MISSING' });
  });

  it('can be loaded from a download in one pass, and only so', async () => {
    const bytes = await encodeArtifact(model());
    const body = new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += 4099) controller.enqueue(bytes.slice(at, at + 4099));
        controller.close();
      },
    });
    const artifact = await openArtifact(responseSource(new Response(body)));
    await expect(artifact.weights.read('z')).rejects.toMatchObject({ code: 'SOURCE_SEQUENTIAL' });
    const streamed = await gather(artifact);
    for (const [name, weight] of weights) expect(Buffer.compare(streamed.get(name)!, weight.bytes)).toBe(0);
  });

  it('has the same bytes for the same model, in memory, on disk and written again', async () => {
    const path = join(folder, 'model.safetensors');
    const progress: number[] = [];
    const written = await writeArtifact(model(), path, {
      onProgress: ({ writtenBytes, totalBytes }) => progress.push(writtenBytes / totalBytes),
    });
    const bytes = new Uint8Array(readFileSync(path));
    const reversed = model({ weights: memoryStore(new Map([...weights].reverse())) });
    expect(Buffer.compare(await encodeArtifact(reversed), bytes)).toBe(0);
    expect(written.byteLength).toBe(bytes.length);
    expect(progress.at(-1)).toBe(1);
    const artifact = await openModel(path);
    expect(Buffer.compare(await encodeArtifact(artifact), bytes)).toBe(0);
    await artifact.weights.close!();
  });

  it('proves its data: every flipped bit is found', async () => {
    const bytes = await encodeArtifact(small());
    const start =
      bytes.length - [...weights].reduce((n, [name, w]) => n + (name === 'big' ? 0 : sectionBytes(w)), 0);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: start, max: bytes.length - 1 }), fc.nat(7), async (at, bit) => {
        const damaged = bytes.slice();
        damaged[at] ^= 1 << bit;
        const code = { code: expect.stringMatching(/^ARTIFACT_(HASH|SCALE|ZERO|CODE)$/) };
        await expect(open(damaged).then((a) => gather(a))).rejects.toMatchObject(code);
        await expect(open(damaged).then((a) => a.weights.read('half'))).rejects.toMatchObject(code);
      }),
      { numRuns: 60 },
    );
  });

  const damaged = (name: string, section: number, at: number, ...bytes: number[]) => {
    const weight = weights.get(name)!;
    const copy = weight.bytes.slice();
    copy.set(bytes, sections(weight)[section].offset + at);
    return model({ weights: memoryStore(new Map([[name, { ...weight, bytes: copy }]])) });
  };
  it.each<[string, Model, number]>([
    ['ARTIFACT_SCALE', damaged('z', 1, 8, 0, 0, 0xc0, 0x7f), 2],
    ['ARTIFACT_SCALE', damaged('z', 1, 8, 0, 0, 0x80, 0x7f), 2],
    ['ARTIFACT_SCALE', damaged('z', 1, 16, 0, 0, 0x80, 0xbf), 4],
    ['ARTIFACT_SCALE', damaged('groups', 1, 4, 0x00, 0x7c), 1],
    ['ARTIFACT_SCALE', damaged('groups', 1, 2, 0x01, 0x7e), 0],
    ['ARTIFACT_SCALE', damaged('groups', 1, 2, 0x00, 0x80), 0],
    ['ARTIFACT_ZERO', damaged('groups', 2, 3, 16), 1],
    ['ARTIFACT_CODE', damaged('three', 0, 9, 0b00_11_00_01), 1],
    ['ARTIFACT_CODE', damaged('rows', 0, 3, 0x10), 1],
    ['ARTIFACT_CODE', damaged('signs', 0, 1, 0b1000), 0],
  ])('refuses, as %s, bytes that no encoder writes (%#)', async (code, bad, row) => {
    await expect(encodeArtifact(bad)).rejects.toMatchObject({ code, fields: { row } });
  });

  it('stops at an abort', async () => {
    const artifact = await open(await encodeArtifact(model()));
    await expect(gather(artifact, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  });

  const config_ = (change: (c: Record<string, never>) => object) =>
    ['config', (c: never) => ({ ...(c as object), ...change(c) })] as const;
  const layer = (change: object) =>
    config_((c) => ({ layers: [{ ...(c.layers as object[])[0], ...change }] }));
  it.each<[string, string, (value: never) => unknown]>([
    ['ARTIFACT_FORMAT', 'format', () => 'pt'],
    ['ARTIFACT_FORMAT', 'config', () => undefined],
    ['ARTIFACT_FORMAT', 'formatVersion', () => 'one'],
    ['ARTIFACT_VERSION', 'formatVersion', () => 2],
    ['ARTIFACT_FORMAT', 'hash', () => 'ab'],
    ['ARTIFACT_FORMAT', 'recipe', () => ({})],
    ['ARTIFACT_FORMAT', 'provenance', () => []],
    ['ARTIFACT_CONFIG', ...config_(() => ({ vocabularySize: 1e12 }))],
    ['ARTIFACT_CONFIG', ...config_(() => ({ embeddingSize: 1.5 }))],
    ['ARTIFACT_CONFIG', ...config_(() => ({ architecture: 'gpt' }))],
    ['ARTIFACT_CONFIG', ...config_(() => ({ epsilon: 0 }))],
    ['ARTIFACT_CONFIG', ...config_(() => ({ wordScale: null }))],
    ['ARTIFACT_CONFIG', ...config_(() => ({ maxLength: 9 }))],
    ['ARTIFACT_CONFIG', ...config_(() => ({ tilePositions: 1 }))],
    ['ARTIFACT_CONFIG', ...config_((c) => ({ layers: new Array(1001).fill((c.layers as object[])[0]) }))],
    [
      'ARTIFACT_CONFIG',
      ...config_(() => ({ head: { kind: 'classification', labels: [], poolerActivation: null } })),
    ],
    ['ARTIFACT_CONFIG', ...config_(() => ({ head: { kind: 'embedding', pooling: 'last' } }))],
    ['ARTIFACT_CONFIG', ...layer({ heads: 0 })],
    ['ARTIFACT_CONFIG', ...layer({ sharedWith: 0 })],
    ['ARTIFACT_CONFIG', ...config_(() => ({ tableSize: 1e6 }))],
    ['ARTIFACT_CONFIG', ...layer({ inputSize: 4 })],
    ['ARTIFACT_CONFIG', ...layer({ activation: 'swish' })],
    ['ARTIFACT_CONFIG', ...layer({ attention: { kind: '../local' } })],
    ['ARTIFACT_TOKENIZER', 'tokenizer', () => ({ kind: 'spm' })],
    ['ARTIFACT_TOKENIZER', 'tokenizer', () => ({ kind: 'unigram', vocabulary: [['a']], reserved: 1 })],
    ['ARTIFACT_WEIGHTS', 'weights', () => ({})],
    ['ARTIFACT_WEIGHTS', 'weights', (w) => ({ ...(w as object), more: { codec: 'float32', shape: [1] } })],
    [
      'ARTIFACT_WEIGHTS',
      'weights',
      (w: Record<string, object>) => ({ ...w, z: { codec: 'int3', shape: [5, 3] } }),
    ],
    [
      'ARTIFACT_WEIGHTS',
      'weights',
      (w: Record<string, object>) => ({ ...w, z: { codec: 'int8', shape: [3, 5] } }),
    ],
    [
      'ARTIFACT_WEIGHTS',
      'weights',
      (w: Record<string, object>) => ({ ...w, z: { codec: 'int8', shape: [1e9, 1e9] } }),
    ],
    ...[
      { groupSize: 64 },
      { groupSize: 33 },
      { groupSize: 0 },
      { groupSize: '32' },
      { groupSize: undefined },
      { scheme: 'other' },
      { scheme: undefined },
      { scaleType: 'bfloat16' },
      { scaleType: 'float32' },
      { perTensor: true },
      { perTensor: 1 },
      { codec: 'int8' },
      { codec: 'int2' },
      { codec: 'ternary' },
    ].map((change): [string, string, (value: never) => unknown] => [
      'ARTIFACT_WEIGHTS',
      'weights',
      (w: Record<string, object>) => ({ ...w, groups: { ...w.groups, ...change } }),
    ]),
    ['ARTIFACT_WEIGHTS', 'weights', ({ half: _half, ...rest }: Record<string, object>) => rest],
  ])('refuses, as %s, an edited %s (%#)', async (code, key, change) => {
    await expect(open(edited(await encodeArtifact(small()), key, change))).rejects.toMatchObject({
      name: 'AttenuateError',
      code,
    });
  });

  const probe: Probe = {
    samples: [{ ids: [1, 4], places: [0, 2], outputs: [encodeValues([0.5, 0.25])] }],
    limits: [{ median: 1e-6, worst: 0.01 }],
  };

  it('carries a probe', async () => {
    const artifact = await open(await encodeArtifact(small(), probe));
    expect(artifact.probe).toEqual(probe);
    expect((await open(await encodeArtifact(small()))).probe).toBeNull();
  });

  const sample = (change: object) => ({ ...probe, samples: [{ ...probe.samples[0], ...change }] });
  const limits = (change: object) => ({ ...probe, limits: [{ ...probe.limits[0], ...change }] });
  it.each<[unknown]>([
    [null],
    [7],
    [{}],
    [{ ...probe, samples: [] }],
    [{ ...probe, samples: new Array(9).fill(probe.samples[0]) }],
    [{ ...probe, samples: [null] }],
    [{ ...probe, limits: [] }],
    [{ ...probe, limits: [null] }],
    [{ ...probe, limits: [probe.limits[0], probe.limits[0]] }],
    [limits({ worst: 2 })],
    [limits({ worst: 0 })],
    [limits({ median: '1' })],
    [sample({ ids: [] })],
    [sample({ ids: [5] })],
    [sample({ ids: [-1] })],
    [sample({ ids: [0.5] })],
    [sample({ ids: new Array(9).fill(0) })],
    [sample({ places: [-1] })],
    [sample({ places: [2 ** 31] })],
    [sample({ outputs: [] })],
    [sample({ outputs: [''] })],
    [sample({ outputs: ['not base64'] })],
    [sample({ outputs: ['AAA='] })],
    [sample({ outputs: [encodeValues(new Float32Array(4000))] })],
  ])('refuses the probe %j', async (bad) => {
    const bytes = edited(await encodeArtifact(small(), probe), 'probe', () => bad);
    await expect(open(bytes)).rejects.toMatchObject({ code: 'ARTIFACT_PROBE' });
  });

  it('meets any damage with an error of its own', async () => {
    const whole = await encodeArtifact(small(), probe);
    const edit = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(
        fc.array(edit, { maxLength: 3 }),
        fc.option(fc.nat(whole.length)),
        async (edits, keep) => {
          const damaged = whole.slice(0, keep ?? whole.length);
          for (const [at, value] of edits) if (at < damaged.length) damaged[at] = value;
          try {
            const artifact = await open(damaged);
            for await (const { bytes } of artifact.weights.stream!()) expect(bytes.length).toBeLessThan(1000);
          } catch (error) {
            expect(error).toBeInstanceOf(AttenuateError);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('writing an artifact', () => {
  const path = join(folder, 'kept.safetensors');
  const left = () => readdirSync(folder).filter((name) => name.endsWith('.partial'));

  it('leaves what was there, and no half file, after an abort or a failure', async () => {
    writeFileSync(path, 'before');
    const controller = new AbortController();
    const onProgress = () => controller.abort(new Error('enough'));
    await expect(writeArtifact(model(), path, { signal: controller.signal, onProgress })).rejects.toThrow(
      'enough',
    );
    const broken: Model = {
      ...model(),
      weights: {
        specs: model().weights.specs,
        read: async () => {
          throw new Error('disk');
        },
      },
    };
    await expect(writeArtifact(broken, path)).rejects.toThrow('disk');
    expect(readFileSync(path, 'utf8')).toBe('before');
    expect(left()).toEqual([]);
  });

  it('names a folder that is not there, and refuses a model that could not be read back', async () => {
    await expect(writeArtifact(model(), join(folder, 'none', 'a'))).rejects.toMatchObject({
      code: 'ARTIFACT_WRITE',
    });
    const bad = model({ config: { ...config, maxLength: 0 } });
    await expect(writeArtifact(bad, join(folder, 'bad'))).rejects.toMatchObject({ code: 'ARTIFACT_CONFIG' });
    expect(existsSync(join(folder, 'bad'))).toBe(false);
  });
});
