import { AttenuateError } from '../tensor/error.ts';

/** Parses UTF-8 JSON of unknown origin. @throws the given code when it is neither UTF-8 nor JSON */
export function parseJson(bytes: Uint8Array | string, where: string, code: string): unknown {
  try {
    return JSON.parse(
      typeof bytes === 'string' ? bytes : new TextDecoder('utf-8', { fatal: true }).decode(bytes),
    );
  } catch (error) {
    throw new AttenuateError(
      code,
      `[${where}] not JSON: expected UTF-8 JSON, got ${error instanceof Error ? error.message : error}. Download or convert the file again.`,
      {},
      { cause: error },
    );
  }
}

/** JSON with the keys of every object sorted: equal values give equal bytes. `undefined` members are left out. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((x) => canonicalJson(x ?? null)).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  if ('toJSON' in value) return JSON.stringify(value) ?? 'null';
  const members = Object.entries(value)
    .filter(([, x]) => x !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return `{${members.map(([key, x]) => `${JSON.stringify(key)}:${canonicalJson(x)}`).join(',')}}`;
}
