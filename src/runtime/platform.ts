import type { Tiles } from '../backend/wasm/kernels/kernel.ts';
import type { SpawnPool } from '../backend/wasm/pool.ts';
import type { AgreementStore } from './agreement.ts';

/** What differs between Node and a browser; everything else in the runtime is the same code. */
export interface Platform {
  readonly name: 'node' | 'browser' | 'any';
  /** Threads when none are asked for. */
  readonly defaultThreads: number;
  /** Most threads that this place can give, and the reason when that is 1. */
  readonly maxThreads: number;
  readonly threadsReason?: string;
  readonly spawn: SpawnPool;
  /** Asks the engine for wider vectors; false when it has none. */
  readonly enableWide: () => boolean;
  /** Whether the engine is known to keep a tile of six rows of floats in registers. */
  readonly keepsSixRows?: boolean;
  /** Artifacts whose probe was found to agree here. */
  readonly agreements?: AgreementStore;
  /** Tiles that a tuning run on this device remembered. */
  readonly rememberedTiles?: (key: string) => Promise<Tiles | null>;
}
