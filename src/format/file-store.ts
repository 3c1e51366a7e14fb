import { type ByteSource, bytesSource } from './byte-source.ts';

/** Named files in one flat place: a folder, a browser's private files, or memory. */
export interface FileStore {
  /** A file as it stands; null where there is none. */
  open(name: string): Promise<ByteSource | null>;
  /** A file that appears under its name only when it is whole; a failure leaves what was there before. */
  write(name: string, parts: readonly (string | Uint8Array)[]): Promise<void>;
  /** Puts text behind what is there, in a new file where there is none. A kill may cut the text short. */
  append(name: string, text: string): Promise<void>;
  names(): Promise<string[]>;
}

/** Files that are gone with the process or the page. */
export function memoryFiles(): FileStore {
  const files = new Map<string, Uint8Array>();
  return {
    open: async (name) => {
      const bytes = files.get(name);
      return bytes ? bytesSource(bytes) : null;
    },
    write: async (name, parts) => void files.set(name, joined(parts)),
    append: async (name, text) => void files.set(name, joined([files.get(name) ?? '', text])),
    names: async () => [...files.keys()],
  };
}

/** All of a file as text; null where there is none. */
export async function readText(files: FileStore, name: string): Promise<string | null> {
  const source = await files.open(name);
  if (!source) return null;
  try {
    return new TextDecoder().decode(await source.read(0, source.size!));
  } finally {
    await source.close();
  }
}

function joined(parts: readonly (string | Uint8Array)[]): Uint8Array {
  const pieces = parts.map((part) => (typeof part === 'string' ? new TextEncoder().encode(part) : part));
  const out = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}
