import { formatWidth, type Width } from '../src/compress/quantize/width.ts';
import { type Configuration, configure } from '../src/runtime/configure.ts';
import { nodePlatform } from '../src/runtime/node/platform.ts';
import { comparePrecision } from './encoder.ts';
import { COPIES, openKernel, productCase, withinBudget } from './kernels.ts';
import { kernelRow } from './ops.ts';
import type { Precision } from './peers.ts';
import { cosineWithReference, type Levels, levelsOf, REFERENCE_COSINE } from './reference.ts';
import { failedRow, type Row } from './report.ts';
import type { Subjects, Variant } from './subjects.ts';
import { interleave } from './timing.ts';

/** Every kind of weights that a product reads; the last takes its input as signs too. */
const WIDTHS: readonly (readonly [width: Width, binaryInput?: boolean])[] = [
  [{ codec: 'int8' }],
  [{ codec: 'int4', groupSize: 32 }],
  [{ codec: 'int4', groupSize: 64 }],
  [{ codec: 'int4', groupSize: 32, scheme: 'affine' }],
  [{ codec: 'int4' }],
  [{ codec: 'int2', groupSize: 64 }],
  [{ codec: 'ternary' }],
  [{ codec: 'binary' }],
  [{ codec: 'binary' }, true],
];
/** The up-projection of MiniLM. */
const [K, C] = [384, 1536];
/** The whole encoder against the peers' graphs of the same width, and against its own reference. */
async function encoderRow(
  subjects: Subjects,
  variant: Variant,
  precision: Precision,
  length: number,
  levels: Levels,
): Promise<Row> {
  const id = `${variant.replace('int4-full', 'int4').replace('-full', 'full')}-n${length}`;
  const row = await comparePrecision(subjects, id, precision, length, {}, variant);
  const ours = await subjects.load(variant);
  const ids = await subjects.ids(Math.min(length, 16));
  const reference = await cosineWithReference(await subjects.model(variant), ours, ids, levels);
  ours.dispose();
  return {
    ...row,
    agrees: row.agrees === null ? null : row.agrees && reference >= REFERENCE_COSINE,
    tolerance: `${row.tolerance}, and ≥ ${REFERENCE_COSINE} with the float64 reference of the same codes`,
    details: { ...row.details, 'cosine with reference': reference },
  };
}

/** A product of few bits in turn with our own product of int8. */
async function againstInt8(
  id: string,
  width: Width,
  binaryInput: boolean,
  configuration: Configuration,
): Promise<Row> {
  const { features, tiles } = configuration;
  const cases = [productCase(128, K, C, width, binaryInput), productCase(128, K, C, { codec: 'int8' })];
  const open = await Promise.all(cases.map((c) => openKernel(c, features, tiles)));
  const cold = (await open[0].run()).slice();
  const { mediansMs, ratios } = await interleave(
    open.map(({ run }) => run),
    { blocks: 16, blockMs: 20 },
  );
  const warm = await open[0].run();
  const levels = levelsOf(configuration.features);
  const agrees = withinBudget(cases[0], cold, levels) && withinBudget(cases[0], warm, levels);
  for (const { dispose } of open) dispose();
  const rate = (ms: number) => (2 * cases[0].multiplyAdds * COPIES) / ms / 1e6;
  return {
    id,
    metric: cases[0].what,
    unit: 'Gop/s',
    better: 'higher',
    ours: rate(mediansMs[0]),
    peers: { 'attenuate, int8': rate(mediansMs[1]) },
    ratio: ratios[1],
    agrees,
    tolerance: 'the op’s error budget against the float64 reference, cold and warm',
  };
}

/** Products of every width for a word, a sentence and a paragraph, as shares of the ceiling of integer products. */
const shares = (): readonly (readonly [id: string, Parameters<typeof productCase>])[] =>
  WIDTHS.flatMap(([width, binaryInput = false]) =>
    [1, 16, 128].map((M) => {
      const name = `${formatWidth(width)}${binaryInput ? '-by-binary' : ''}`;
      return [`${name}-m${M}`, [M, K, C, width, binaryInput]] as const;
    }),
  );

export async function lowbit(subjects: Subjects): Promise<Row[]> {
  const { config } = await subjects.model('float32');
  const configuration = await configure(config, { threads: 1 }, nodePlatform);
  const levels = levelsOf(configuration.features);
  const rows: (readonly [id: string, measure: () => Promise<Row>])[] = [
    ['int8full-n128', () => encoderRow(subjects, 'int8-full', 'int8', 128, levels)],
    ['int8full-n16', () => encoderRow(subjects, 'int8-full', 'int8', 16, levels)],
    ['int4-n128', () => encoderRow(subjects, 'int4-full', 'int4', 128, levels)],
    ['int4-n16', () => encoderRow(subjects, 'int4-full', 'int4', 16, levels)],
    ['ternary-gemm', () => againstInt8('ternary-gemm', { codec: 'ternary' }, false, configuration)],
    ['binary-gemm', () => againstInt8('binary-gemm', { codec: 'binary' }, true, configuration)],
    [
      'binary-weights-gemm',
      () => againstInt8('binary-weights-gemm', { codec: 'binary' }, false, configuration),
    ],
    ...shares().map(
      ([id, parameters]) =>
        [id, async () => ({ ...(await kernelRow(productCase(...parameters), configuration)), id })] as const,
    ),
  ];
  const out: Row[] = [];
  for (const [id, measure] of rows) out.push(await measure().catch((error) => failedRow(id, error)));
  return out;
}
