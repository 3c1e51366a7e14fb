import { type FileHandle, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** One line of a training log. */
export interface LogEntry {
  readonly step: number;
  readonly [field: string]: number;
}

/** A file of JSON lines that grows while a run does. */
export class TrainingLog {
  private readonly file: FileHandle;

  private constructor(file: FileHandle) {
    this.file = file;
  }

  /** Goes on after the entries of steps up to `step`; later ones are of work that was lost and is done again. */
  static async open(path: string, step: number): Promise<TrainingLog> {
    const kept = step > 0 ? (await readLog(path)).filter((entry) => entry.step <= step) : [];
    const file = await open(path, 'w');
    await file.writeFile(kept.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
    return new TrainingLog(file);
  }

  async write(entry: LogEntry): Promise<void> {
    await this.file.writeFile(`${JSON.stringify(entry)}\n`);
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

/** The entries of a log; none where there is no file. A line that a kill cut short is left out. */
export async function readLog(path: string): Promise<LogEntry[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n').flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

/** Entries of every log that runs left in a folder, by the names of the files. */
export async function readLogs(folder: string): Promise<LogEntry[]> {
  const files = (await readdir(folder)).filter((name) => /^log-.*\.jsonl$/.test(name)).sort();
  return (await Promise.all(files.map((name) => readLog(join(folder, name))))).flat();
}
