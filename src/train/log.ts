import { type FileStore, readText } from '../format/file-store.ts';

/** One line of a training log. */
export interface LogEntry {
  readonly step: number;
  readonly [field: string]: number;
}

/** A file of JSON lines that grows while a run does. */
export class TrainingLog {
  private readonly files: FileStore;
  private readonly name: string;

  private constructor(files: FileStore, name: string) {
    this.files = files;
    this.name = name;
  }

  /** Goes on after the entries of steps up to `step`; later ones are of work that was lost and is done again. */
  static async open(files: FileStore, name: string, step: number): Promise<TrainingLog> {
    const kept = step > 0 ? (await readLog(files, name)).filter((entry) => entry.step <= step) : [];
    await files.write(name, [kept.map(line).join('')]);
    return new TrainingLog(files, name);
  }

  write(entry: LogEntry): Promise<void> {
    return this.files.append(this.name, line(entry));
  }
}

const line = (entry: LogEntry): string => `${JSON.stringify(entry)}\n`;

/** The entries of a log; none where there is no file. A line that a kill cut short is left out. */
export async function readLog(files: FileStore, name: string): Promise<LogEntry[]> {
  const text = (await readText(files, name)) ?? '';
  return text.split('\n').flatMap((entry) => {
    try {
      return [JSON.parse(entry)];
    } catch {
      return [];
    }
  });
}

/** Entries of every log that runs left, by the names of the files. */
export async function readLogs(files: FileStore): Promise<LogEntry[]> {
  const names = (await files.names()).filter((name) => /^log-.*\.jsonl$/.test(name)).sort();
  return (await Promise.all(names.map((name) => readLog(files, name)))).flat();
}
