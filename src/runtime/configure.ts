import type { Features, Tiles } from '../backend/wasm/kernels/kernel.ts';
import { probeFeatures } from '../backend/wasm/probe.ts';
import type { EncoderConfig } from '../model/config.ts';
import { padHead } from '../program/ops/linear.ts';
import type { Platform } from './platform.ts';
import type { BackendInfo, LoadOptions } from './types.ts';

/**
 * Good on every engine measured; `tune` may find better for one device. Engines with a fused integer dot hold six rows
 * in registers, older ones spill them; six rows of floats are held by fewer engines yet, and need the fused product.
 */
export const defaultTiles = (
  { dot, fused }: Pick<Features, 'dot' | 'fused'>,
  keepsSixRows = false,
): Tiles => ({
  float32: fused && keepsSixRows ? 6 : 4,
  int8: dot === 'u8' || dot === 's8' ? 6 : 4,
});

let probed: ReturnType<typeof probeFeatures> | null = null;

export interface Configuration {
  readonly features: Features;
  readonly tiles: Tiles;
  readonly threads: number;
  readonly info: Omit<BackendInfo, 'agreement'>;
}

/** Which tiles belong to which instructions: the key under which they are remembered. */
export const tilesKey = (features: Features): string =>
  `${features.level}-${features.fused ? 'fused' : 'plain'}-${features.dot}-${features.panel}`;

/** Decides features, tiles and threads, and says in words what was asked for and could not be had. */
export async function configure(
  config: EncoderConfig,
  options: LoadOptions,
  platform: Platform,
): Promise<Configuration> {
  const fallbacks: string[] = [];
  const wide = options.wide === true && wideEnough(config, platform, fallbacks);
  probed ??= probeFeatures();
  const level =
    options.level === 'simd128' ? ({ level: 'simd128', fused: false, dot: 'i16' } as const) : probed;
  const features: Features = { ...level, panel: wide ? 16 : 8 };
  const wanted = options.threads ?? platform.defaultThreads;
  const threads = Math.max(1, Math.min(wanted, platform.maxThreads));
  if (options.threads !== undefined && threads < wanted)
    fallbacks.push(`${wanted} threads: ${platform.threadsReason ?? `only ${platform.maxThreads} here`}`);
  const remembered = await platform.rememberedTiles?.(tilesKey(features)).catch(() => null);
  const tiles = remembered ?? defaultTiles(features, platform.keepsSixRows);
  return {
    features,
    tiles,
    threads,
    info: {
      backend: 'wasm',
      level: features.level,
      dot: features.dot,
      fused: features.fused,
      threads,
      fallbacks,
    },
  };
}

function wideEnough(config: EncoderConfig, platform: Platform, fallbacks: string[]): boolean {
  if (config.layers.some((l) => padHead(l.headSize) % 16 !== 0))
    fallbacks.push('wide vectors: head sizes here do not fill a panel of 16 columns');
  else if (!platform.enableWide()) fallbacks.push('wide vectors: this engine has no such flag');
  else return true;
  return false;
}
