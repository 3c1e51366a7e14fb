import { stat } from 'node:fs/promises';
import { applyRecipe } from '../src/compress/index.ts';
import { writeArtifact } from '../src/format/index.ts';
import { median } from './outputs.ts';
import { failedRow, type Row } from './report.ts';
import { inChild } from './spawn.ts';
import type { Subjects } from './subjects.ts';

/** Everything that can be stored in a width is, the word table too where it can. */
const WIDTHS: Readonly<Record<string, object | null>> = {
  float32: null,
  float16: { bits: 16 },
  int8: { bits: 8 },
  int4: { bits: 4, embeddings: 'int4-g128' },
  int2: { bits: 2, embeddings: 'int2-g128' },
  ternary: { bits: 'ternary', embeddings: 'ternary' },
  binary: { bits: 'binary', embeddings: 'binary' },
};
const LENGTH = 128;
const PROCESSES = 3;
/** Most that a process may hold of the artifact plus the arena that was planned. */
const MOST = 1.3;

/** What a model holds at most, over loading and a text, by what its artifact and its plan say. */
async function peakRow(subjects: Subjects, width: string): Promise<Row> {
  const float = await subjects.model('float32');
  const file = await subjects.file(`peak-${width}.safetensors`, async (path) => {
    const options = WIDTHS[width];
    await writeArtifact(options ? await applyRecipe(float, [{ step: 'quantize', ...options }]) : float, path);
  });
  const ids = await subjects.ids(LENGTH);
  const task = { engine: 'attenuate', file, ids, options: { threads: 1 }, watchMemory: true } as const;
  const peakOf = async (heldOnly: boolean) => {
    const results = [];
    for (let i = 0; i < PROCESSES; i++) results.push(await inChild({ ...task, heldOnly }));
    return { peak: median(results.map(({ peakBytes }) => peakBytes!)), arena: results[0].plannedBytes! };
  };
  const { peak, arena } = await peakOf(true);
  const first = await peakOf(false);
  const { size } = await stat(file);
  const share = peak / (size + arena);
  return {
    id: `peak-${width}`,
    metric: `most that is held of WebAssembly memory, ArrayBuffers and heap over load() and a text of ${LENGTH} tokens, by artifact and planned arena`,
    unit: '',
    better: 'lower',
    ours: share,
    peers: {},
    ratio: null,
    agrees: share <= MOST,
    tolerance: `at most ${MOST}`,
    details: {
      'peak bytes': peak,
      'artifact bytes': size,
      'arena bytes': arena,
      'with the code and uncollected garbage of a first load': first.peak,
    },
  };
}

export async function peaks(subjects: Subjects): Promise<Row[]> {
  const rows: Row[] = [];
  for (const width of Object.keys(WIDTHS))
    rows.push(await peakRow(subjects, width).catch((error) => failedRow(`peak-${width}`, error)));
  return rows;
}
