import { AttenuateError } from '../tensor/error.ts';

/**
 * Takes tokens off the ends until both texts have `room`: of a pair the longer one (the second, when both are equal)
 * loses first, and once both have to lose it keeps half the room, rounded up.
 */
export function cutToFit(first: number[], second: number[] | null, room: number): void {
  if (!second) first.length = Math.min(first.length, room);
  else if (first.length + second.length > room) {
    const [shorter, longer] = first.length > second.length ? [second, first] : [first, second];
    shorter.length = Math.min(shorter.length, Math.floor(room / 2));
    longer.length = room - shorter.length;
  }
}

export function noRoom(specials: number, maxLength: number): AttenuateError {
  return new AttenuateError(
    'TOKENIZER_LENGTH',
    `[tokenizer] no room for text: expected more than ${specials} tokens, got a maximum of ${maxLength}. Raise maxLength.`,
    { maxLength, specials },
  );
}
