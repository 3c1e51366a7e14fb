import { WasmEngine } from '../../backend/wasm/engine.ts';
import { layoutArtifact } from '../../format/artifact-layout.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { configure } from '../../runtime/configure.ts';
import { nodePlatform } from '../../runtime/node/platform.ts';

/** Bytes of the artifact that a model would be written to, exact, without writing it. */
export const artifactBytes = (model: Model): number => layoutArtifact(model).byteLength;

/** Exact peak of one text of so many tokens on this machine, weights included, without loading any. */
export async function plannedPeak(model: Model, length: number): Promise<number> {
  const { specs } = model.weights;
  const program = await traceEncoder(model.config, specs);
  const { features, tiles } = await configure(model.config, { threads: 1 }, nodePlatform);
  const engine = await WasmEngine.create(program, specs, { features, tiles, threads: 1 });
  try {
    return engine.plan({ B: 1, N: Math.max(1, Math.min(length, model.config.maxLength)), P: 1 }).end;
  } finally {
    engine.dispose();
  }
}
