import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Machine } from '../report.ts';

/** What was measured of one mechanism, or of a peer, at one head size and length. */
export interface Figure {
  readonly name: string;
  /** Null: it does not run there, and the note says why. */
  readonly ms: number | null;
  /** Its time over that of a fixed loop of multiply-adds timed in turn with it: what travels from batch to batch. */
  readonly spins: number | null;
  /** Ours: the arena with inputs, output and scratch. A peer's: what its process held above the inputs. */
  readonly peakBytes: number | null;
  readonly scratchBytes: number | null;
  /** Against dense attention in float64, on some rows. */
  readonly relativeL1: number | null;
  /** Whether it is what it stands for, within a limit; null where nothing says so at this length. */
  readonly agrees: boolean | null;
  readonly within: string | null;
  /** Pairs of blocks over all heads, of a single attention over a BlockMask. */
  readonly keptBlocks: number | null;
  readonly note: string | null;
}

/** One layer of the real model. */
export interface RealFigure {
  readonly name: string;
  readonly layer: number;
  readonly ms: number;
  /** How many times faster than our dense attention on the same activations. */
  readonly timesDense: number;
  readonly relativeL1: number;
  readonly cosine: number;
  /** Share of the pairs of blocks that were kept, where the mechanism chooses them. */
  readonly kept: number | null;
}

export interface Part<F> {
  readonly machine: Machine;
  readonly figures: readonly F[];
}

/** Everything measured so far: parts `d<D>-n<n>` and `real-layer<i>`. */
export interface Store {
  readonly settings: Readonly<Record<string, Part<Figure>>>;
  readonly real: Readonly<Record<string, Part<RealFigure>>>;
}

const FOLDER = fileURLToPath(new URL('../../docs/cards/', import.meta.url));
const FILE = `${FOLDER}attention-speed.json`;

const sameMachine = (a: Machine, b: Machine): boolean =>
  a.cpu === b.cpu && a.engine === b.engine && a.dot === b.dot;

export async function readStore(): Promise<Store> {
  return existsSync(FILE) ? JSON.parse(await readFile(FILE, 'utf8')) : { settings: {}, real: {} };
}

/** Figures of a part so far; those of another machine do not count. */
export const figuresOf = <F>(
  parts: Readonly<Record<string, Part<F>>>,
  id: string,
  machine: Machine,
): readonly F[] => (parts[id] && sameMachine(parts[id].machine, machine) ? parts[id].figures : []);

/** The store with figures of a part added, or put in the place of those with the same key. */
export function merged<F>(
  parts: Readonly<Record<string, Part<F>>>,
  id: string,
  machine: Machine,
  added: readonly F[],
  keyOf: (figure: F) => string,
): Record<string, Part<F>> {
  const byKey = new Map(figuresOf(parts, id, machine).map((figure) => [keyOf(figure), figure]));
  for (const figure of added) byKey.set(keyOf(figure), figure);
  return { ...parts, [id]: { machine, figures: [...byKey.values()] } };
}

/** Five figures say more than any clock does. */
const brief = (_: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;

/** Writes the figures, one a line, and the page made from them; each is whole or as it was. */
export async function writeStore(store: Store, page: string): Promise<void> {
  await mkdir(FOLDER, { recursive: true });
  const lines = JSON.stringify(store, brief, 1).replace(/\{\n\s+"name"[^{}]*\}/g, (figure) =>
    figure.replace(/\n\s*/g, ' '),
  );
  for (const [file, text] of [
    [FILE, `${lines}\n`],
    [`${FOLDER}attention-speed.md`, page],
  ]) {
    await writeFile(`${file}.part`, text);
    await rename(`${file}.part`, file);
  }
}
