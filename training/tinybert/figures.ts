import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { writeWhole } from '../../src/format/node/whole-file.ts';

/** What one run gave. */
export interface Figure {
  readonly task: string;
  /** `teacher`, or a variant's name. */
  readonly variant: string;
  readonly seed: number;
  /** Share of test texts whose label is found, by the artifact as it runs. */
  readonly accuracy: number;
  readonly bytes: number;
  readonly texts: number;
  readonly minutes: number;
}

const same = (a: Figure, b: Pick<Figure, 'task' | 'variant' | 'seed'>) =>
  a.task === b.task && a.variant === b.variant && a.seed === b.seed;

/** The figures of all runs so far, in one file. */
export class Figures {
  private readonly path: string;
  private list: Figure[];

  private constructor(path: string, list: Figure[]) {
    this.path = path;
    this.list = list;
  }

  static async open(path: string): Promise<Figures> {
    return new Figures(path, existsSync(path) ? JSON.parse(await readFile(path, 'utf8')).runs : []);
  }

  get all(): readonly Figure[] {
    return this.list;
  }

  find(key: Pick<Figure, 'task' | 'variant' | 'seed'>): Figure | undefined {
    return this.list.find((figure) => same(figure, key));
  }

  /** Adds a figure to what the file holds by now: runs of other processes are kept. */
  async add(figure: Figure): Promise<void> {
    const { list } = await Figures.open(this.path);
    this.list = [...list.filter((other) => !same(other, figure)), figure];
    await writeWhole(this.path, [`${JSON.stringify({ runs: this.list }, null, 2)}\n`]);
  }
}
