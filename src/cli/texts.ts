import { createReadStream } from 'node:fs';
import type { TextInput } from '../runtime/types.ts';
import { usageError } from './command.ts';
import type { Io } from './io.ts';

/** Texts to work on: the arguments, or the lines of a file, or of standard input. Empty lines are left out. */
export async function readTexts(
  command: string,
  given: { readonly texts: readonly string[]; readonly file: string | undefined },
  io: Io,
): Promise<string[]> {
  const { texts, file } = given;
  if (texts.length && file !== undefined)
    throw usageError(command, 'texts twice: expected either arguments or --file, got both. Leave one out.');
  if (texts.length) return [...texts];
  if (file === undefined && io.stdin.isTTY)
    throw usageError(
      command,
      'no text: expected arguments, --file or standard input, got none. Give at least one text.',
    );
  return readLines(command, file === undefined ? io.stdin : createReadStream(file));
}

/** Lines that are not empty. @throws `USAGE` where there is none */
export async function readLines(
  command: string,
  stream: AsyncIterable<string | Uint8Array>,
): Promise<string[]> {
  const lines = (await readAll(stream)).split(/\r?\n/).filter((line) => line.trim() !== '');
  if (lines.length === 0)
    throw usageError(command, 'no text: expected at least one line that is not empty, got none.');
  return lines;
}

async function readAll(stream: AsyncIterable<string | Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let all = '';
  for await (const chunk of stream)
    all += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true });
  return all + decoder.decode();
}

/** Each line as two texts with a tab between them. @throws `USAGE` naming the first line that is not */
export function asPairs(command: string, lines: readonly string[]): [first: string, second: string][] {
  return lines.map((line, i) => {
    const parts = line.split('\t');
    if (parts.length !== 2)
      throw usageError(
        command,
        `bad pair ${i + 1}: expected two texts with one tab between them, got ${parts.length}. Correct the line.`,
        { line: i + 1 },
      );
    return [parts[0], parts[1]];
  });
}

/** How a text is called in a result. */
export const labelOf = (text: TextInput): string => (typeof text === 'string' ? text : text.join('\t'));
