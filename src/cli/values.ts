import { usageError } from './command.ts';

/** A whole number from `least` on. @throws `USAGE` */
export function wholeNumber(command: string, flag: string, value: string, least = 1): number {
  const n = Number(value);
  if (!/^\d+$/.test(value) || !Number.isSafeInteger(n) || n < least)
    throw usageError(
      command,
      `bad ${flag}: expected a whole number from ${least} on, got ${JSON.stringify(value)}.`,
      { flag, got: value },
    );
  return n;
}

/** Whole numbers from 1 on, separated by commas, each once. @throws `USAGE` */
export const wholeNumbers = (command: string, flag: string, value: string): number[] => [
  ...new Set(value.split(',').map((part) => wholeNumber(command, flag, part.trim()))),
];

/**
 * Sequence lengths to look at: those asked for, or those of `usual` that the model takes.
 * @throws `USAGE` for a length beyond the model's
 */
export function lengthsFor(
  command: string,
  asked: string | undefined,
  maxLength: number,
  usual: readonly number[],
): number[] {
  if (asked === undefined) {
    const fitting = usual.filter((length) => length <= maxLength);
    return fitting.length ? fitting : [maxLength];
  }
  const lengths = wholeNumbers(command, '--lengths', asked);
  const beyond = lengths.find((length) => length > maxLength);
  if (beyond !== undefined)
    throw usageError(
      command,
      `bad --lengths: expected at most ${maxLength} tokens, got ${beyond}. Use --tile-positions to go beyond the position table.`,
      { maxLength, got: beyond },
    );
  return lengths;
}
