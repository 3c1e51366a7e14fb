import { WasmEngine } from '../backend/wasm/engine.ts';
import type { Artifact } from '../format/artifact.ts';
import { createTokenizer } from '../format/tokenizer.ts';
import type { Model } from '../model/config.ts';
import { expectUnbounded, traceEncoder } from '../model/encoder.ts';
import { byteSize } from '../tensor/codec.ts';
import { agree } from './agreement.ts';
import { configure } from './configure.ts';
import type { Platform } from './platform.ts';
import { EncoderModel } from './text-model.ts';
import type { AgreementInfo, LoadOptions, TextModel } from './types.ts';

/** Longest sequence with tiled positions: what the arena's 32-bit addresses and the block lists are tested for. */
const TILED_LENGTH = 16384;

/**
 * Makes a Model ready to run here: places and packs its weights as they stream in.
 * @param artifact the file that `model` is just as it stands there: its probe is run, and remembered where it can be
 * @throws `OUT_OF_MEMORY`, `AGREEMENT_FAILED`, what the model's file throws, the signal's reason after an abort
 */
export async function loadOn(
  platform: Platform,
  model: Model,
  options: LoadOptions = {},
  artifact?: Pick<Artifact, 'probe' | 'hash'>,
): Promise<TextModel> {
  const { signal, onProgress } = options;
  signal?.throwIfAborted();
  if (options.tilePositions) await expectUnbounded(model.config);
  const config = options.tilePositions
    ? { ...model.config, tilePositions: true, maxLength: TILED_LENGTH }
    : model.config;
  const { specs } = model.weights;
  const program = await traceEncoder(config, specs);
  const { features, tiles, threads, info } = await configure(config, options, platform);
  const engine = await WasmEngine.create(program, specs, {
    features,
    tiles,
    threads,
    spawn: platform.spawn,
    maxMemory: options.maxMemory,
  });
  try {
    const loader = engine.loader(specs);
    const totalBytes = [...specs.values()].reduce((n, s) => n + byteSize(s), 0);
    let loadedBytes = 0;
    for await (const { name, offset, bytes } of pieces(model, signal)) {
      signal?.throwIfAborted();
      loader.accept(name, offset, bytes);
      loadedBytes += bytes.length;
      onProgress?.({ loadedBytes, totalBytes });
    }
    loader.finish();
    const tokenizer = model.tokenizer ? await createTokenizer(model.tokenizer, config.maxLength) : null;
    const parts = { model: { ...model, config }, engine, tokenizer };
    const made = (agreement: AgreementInfo) => new EncoderModel({ ...parts, info: { ...info, agreement } });
    const agreement = await agree(
      made({ state: 'not verified' }),
      artifact,
      options,
      engine.code,
      platform.agreements,
    );
    return made(agreement);
  } catch (error) {
    engine.dispose();
    throw error;
  }
}

async function* pieces({ weights }: Model, signal?: AbortSignal) {
  if (weights.stream) {
    yield* weights.stream(signal);
    return;
  }
  for (const name of weights.specs.keys()) yield { name, offset: 0, bytes: (await weights.read(name)).bytes };
}
