import type { Features } from '../src/backend/wasm/kernels/kernel.ts';
import type { EncoderConfig } from '../src/model/config.ts';
import { type Configuration, configure } from '../src/runtime/configure.ts';
import { nodePlatform } from '../src/runtime/node/platform.ts';
import { type CeilingName, ceilings, spinLoop } from './ceiling.ts';
import { COPIES, type KernelCase, kernelCases, openKernel, withinBudget } from './kernels.ts';
import { failedRow, type Row } from './report.ts';
import type { Subjects } from './subjects.ts';
import { interleave } from './timing.ts';

export const ceilingOf = (
  arithmetic: KernelCase['arithmetic'],
  { dot, fused }: Pick<Features, 'dot' | 'fused'>,
): CeilingName => {
  if (arithmetic === 'int8') return dot === 'i16' ? 'int16Dot' : 'int8Dot';
  return fused ? 'f32Fused' : 'f32MulAdd';
};

/** One kernel in turn with the loop that sets its ceiling, so that both see the same neighbours. */
export async function kernelRow(kernel: KernelCase, { features, tiles }: Configuration): Promise<Row> {
  const open = await openKernel(kernel, features, tiles);
  const cold = (await open.run()).slice();
  const name = ceilingOf(kernel.arithmetic, features);
  const loop = spinLoop(name)!;
  const { mediansMs, ratios } = await interleave([open.run, loop.run], { blocks: 12, blockMs: 20 });
  const warm = await open.run();
  const levels = features.dot === 'u7' ? 128 : 256;
  const agrees = withinBudget(kernel, cold, levels) && withinBudget(kernel, warm, levels);
  open.dispose();
  const operations = 2 * kernel.multiplyAdds * COPIES;
  return {
    id: kernel.id,
    metric: kernel.what,
    unit: kernel.arithmetic === 'int8' ? 'Gop/s' : 'GFLOP/s',
    better: 'higher',
    ours: operations / mediansMs[0] / 1e6,
    peers: { [`ceiling ${name}`]: loop.operations / mediansMs[1] / 1e6 },
    ratio: (ratios[1] * operations) / loop.operations,
    agrees,
    tolerance: 'the op’s error budget against the float64 reference, cold and warm',
  };
}

/** Multiply-adds of an encoder's products for one text: those with weights, and those of dense attention. */
function encoderProducts(config: EncoderConfig, n: number): { weights: number; attention: number } {
  let weights = 0;
  let attention = 0;
  for (const { inputSize: C, outputSize: O, heads, headSize, feedForwardSize: F } of config.layers) {
    const inner = heads * headSize;
    weights += n * (3 * C * inner + inner * O + 2 * O * F + (C === O ? 0 : C * O));
    attention += 2 * n * n * inner;
  }
  return { weights, attention };
}

/** How close the whole encoder comes to the time that its products alone would take at the ceilings. */
async function encoderRow(subjects: Subjects, precision: 'float32' | 'int8'): Promise<Row> {
  const id = `${precision === 'int8' ? 'int8' : 'f32'}-n128-ceiling`;
  const ids = await subjects.ids(128);
  const model = await subjects.load(precision);
  const { dot, fused } = model.info;
  const work = encoderProducts(model.config, ids.length);
  const at = await ceilings();
  const rates = [precision, 'float32' as const].map((a) => at[ceilingOf(a, { dot, fused })]!);
  const idealMs = (2 * work.weights) / rates[0] / 1e6 + (2 * work.attention) / rates[1] / 1e6;
  const { mediansMs } = await interleave([() => model.run([ids])], { blocks: 12 });
  model.dispose();
  return {
    id,
    metric: `whole encoder, ${precision}, n=128; peer: its matrix products at the ceilings`,
    unit: 'ms',
    better: 'lower',
    ours: mediansMs[0],
    peers: { ceiling: idealMs },
    ratio: idealMs / mediansMs[0],
    agrees: null,
    tolerance: null,
    note: `${(mediansMs[0] / idealMs).toFixed(2)}× the products' time`,
  };
}

export async function ops(subjects: Subjects): Promise<Row[]> {
  const { config } = await subjects.model('float32');
  const configuration = await configure(config, { threads: 1 }, nodePlatform);
  const rows: Row[] = [];
  for (const kernel of kernelCases())
    rows.push(await kernelRow(kernel, configuration).catch((error) => failedRow(kernel.id, error)));
  for (const precision of ['float32', 'int8'] as const)
    rows.push(
      await encoderRow(subjects, precision).catch((error) =>
        failedRow(`${precision === 'int8' ? 'int8' : 'f32'}-n128-ceiling`, error),
      ),
    );
  return rows;
}
