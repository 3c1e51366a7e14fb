import { parseWidth } from '../compress/quantize/width.ts';
import type { QuantizeMethod } from '../optimize/index.ts';
import { AttenuateError } from '../tensor/error.ts';
import { usageError } from './command.ts';

const BITS: Readonly<Record<string, number | string>> = {
  16: 16,
  8: 8,
  4: 4,
  2: 2,
  ternary: 'ternary',
  binary: 'binary',
};
const METHODS: readonly QuantizeMethod[] = ['rtn', 'smoothquant', 'gptq', 'awq'];

/** What `--method` names. @throws `USAGE` */
export function methodOf(command: string, text: string): QuantizeMethod {
  const found = METHODS.find((method) => method === text);
  if (!found)
    throw usageError(
      command,
      `bad --method: expected one of ${METHODS.join(', ')}, got ${JSON.stringify(text)}.`,
    );
  return found;
}

/** What `--bits` names beside `mixed`. @throws `USAGE` */
export function bitsOf(command: string, text: string): number | string {
  if (Object.hasOwn(BITS, text)) return BITS[text];
  throw usageError(
    command,
    `bad --bits: expected one of ${[...Object.keys(BITS).reverse(), 'mixed'].join(', ')}, got ${JSON.stringify(text)}.`,
  );
}

/** What `--embeddings` names: a width such as `int4-g32`, bits, or `float`. @throws `USAGE` */
export function embeddingsOf(command: string, text: string | undefined): boolean | string | undefined {
  if (text === undefined) return undefined;
  if (text === 'float') return false;
  return widthOf(command, '--embeddings', { 8: 'int8', 4: 'int4-g32' }[text] ?? text);
}

/** Widths by hand, such as `value=int8,/layers\.0\./=int4-g32`, as a step's `mixed`. @throws `USAGE` */
export function keptWidths(command: string, text: string | undefined): Record<string, string> | undefined {
  if (text === undefined) return undefined;
  return Object.fromEntries(
    splitOutsideSlashes(text).map((part) => {
      const at = part.lastIndexOf('=');
      if (at < 1)
        throw usageError(
          command,
          `bad --keep: expected a weight, a role or a /regular expression/, then = and a width, got ${JSON.stringify(part)}.`,
        );
      return [part.slice(0, at), widthOf(command, '--keep', part.slice(at + 1))];
    }),
  );
}

/** Widths separated by commas. @throws `USAGE` */
export const widthList = (command: string, text: string | undefined): string[] | undefined =>
  text?.split(',').map((part) => widthOf(command, '--widths', part.trim()));

function widthOf(command: string, flag: string, text: string): string {
  try {
    parseWidth(text);
    return text;
  } catch (error) {
    if (!(error instanceof AttenuateError)) throw error;
    throw usageError(command, `bad ${flag}: ${error.message.replace(/^\[\w+\] /, '')}`, { ...error.fields });
  }
}

/** Parts between commas; those inside a regular expression do not count. */
function splitOutsideSlashes(text: string): string[] {
  const parts: string[] = [''];
  let inside = false;
  for (const [at, letter] of [...text].entries()) {
    // An expression begins a part and ends before its = sign.
    if (letter === '/' && (inside ? text[at + 1] === '=' : parts[parts.length - 1] === '')) inside = !inside;
    if (letter === ',' && !inside) parts.push('');
    else parts[parts.length - 1] += letter;
  }
  return parts.map((part) => part.trim());
}
