import { configure } from '../../src/runtime/configure.ts';
import { nodePlatform } from '../../src/runtime/node/platform.ts';
import type { Machine, Row } from '../report.ts';
import type { Subjects } from '../subjects.ts';
import { speedPage } from './page.ts';
import { measureLayer, REAL_LENGTH, realActivations, realNames } from './real.ts';
import { realRows, settingRows } from './report-rows.ts';
import { contenderNames, idOf, measureSetting, type Setting } from './setting.ts';
import {
  type Figure,
  figuresOf,
  merged,
  type RealFigure,
  readStore,
  type Store,
  writeStore,
} from './store.ts';
import { summaryRows } from './summary.ts';

export const LENGTHS = [128, 512, 2048, 4096, 8192, 16384] as const;
export const HEAD_SIZES = [32, 64] as const;
export const SETTINGS: readonly Setting[] = HEAD_SIZES.flatMap((headSize) =>
  LENGTHS.map((n) => ({ headSize, n })),
);
/** What would take longer for one call is left out, by its time at half the length. */
const LONGEST_MS = 40_000;

export interface AttentionBench {
  /** Parts to measure, `d32-n4096` or `real-layer0`, or the beginnings of such names; empty: all. */
  readonly only: readonly string[];
  /** Contenders to measure, by name; empty: all. */
  readonly names: readonly string[];
  /** Whether what is known already is measured again. */
  readonly again: boolean;
  /** No batch is begun later than this. */
  readonly minutes: number;
}

/**
 * Every mechanism from 128 to 16,384 tokens, and some on a real model's activations. What is known is kept in
 * docs/cards/attention-speed.json, and only what is missing there is measured, as far as time allows; the page beside
 * it is written from all of it.
 */
export async function attention(
  subjects: Subjects,
  machine: Machine,
  { only, names, again, minutes }: AttentionBench,
): Promise<Row[]> {
  const deadline = performance.now() + minutes * 60_000;
  const { config } = await subjects.model('float32');
  const configuration = await configure(config, { threads: 1 }, nodePlatform);
  let store = await readStore();
  const save = async (change: Partial<Store>) => {
    store = { ...store, ...change };
    await writeStore(store, speedPage(store));
  };
  const wanted = (id: string): boolean => only.length === 0 || only.some((part) => id.startsWith(part));
  const missing = (all: readonly string[], known: readonly { name: string }[]): string[] =>
    all.filter(
      (name) =>
        (names.length === 0 || names.includes(name)) &&
        (again || !known.some((figure) => figure.name === name)),
    );

  for (const setting of SETTINGS) {
    const id = idOf(setting);
    const open = wanted(id) ? missing(contenderNames(), figuresOf(store.settings, id, machine)) : [];
    if (open.length === 0 || performance.now() > deadline) continue;
    const half = figuresOf(store.settings, idOf({ ...setting, n: setting.n / 2 }), machine);
    const expectMs = (name: string) => 4 * (half.find((figure) => figure.name === name)?.ms ?? 0);
    process.stderr.write(`  ${id}: ${open.length} …\n`);
    const bearable = open.filter((name) => expectMs(name) <= LONGEST_MS);
    for await (const figures of measureSetting(setting, bearable, expectMs, configuration, deadline)) {
      await save({ settings: merged(store.settings, id, machine, figures, (figure: Figure) => figure.name) });
      process.stderr.write(
        `    ${figures.map(({ name, ms }) => `${name} ${ms?.toFixed(2) ?? '–'}`).join(', ')}\n`,
      );
    }
  }

  let activations: Float32Array[] | undefined;
  for (const layer of config.layers.keys()) {
    const id = `real-layer${layer}`;
    const open = wanted(id) ? missing(realNames(), figuresOf(store.real, id, machine)) : [];
    if (open.length === 0 || performance.now() > deadline) continue;
    activations ??= await realActivations(subjects, REAL_LENGTH, configuration);
    process.stderr.write(`  ${id}: ${open.length} …\n`);
    const figures = await measureLayer(layer, activations[layer], open, configuration);
    await save({ real: merged(store.real, id, machine, figures, (figure: RealFigure) => figure.name) });
  }
  await save({});
  return [...settingRows(store, wanted), ...summaryRows(store), ...realRows(store, wanted)];
}
