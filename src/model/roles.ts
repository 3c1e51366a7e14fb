import { names } from './names.ts';

/** What a matrix or a table does in an encoder, whatever layer it stands in. */
export type Role =
  | 'word'
  | 'position'
  | 'type'
  | 'query'
  | 'key'
  | 'value'
  | 'output'
  | 'residual'
  | 'up'
  | 'down'
  | 'head';

const IN_LAYER: Readonly<Record<string, Role>> = {
  'attention.query': 'query',
  'attention.key': 'key',
  'attention.value': 'value',
  'attention.output': 'output',
  residual: 'residual',
  'feedForward.up': 'up',
  'feedForward.down': 'down',
};
const TABLES: Readonly<Record<string, Role>> = {
  [names.word]: 'word',
  [names.position]: 'position',
  [names.tokenType]: 'type',
};

export const ROLES: readonly Role[] = [...Object.values(TABLES), ...Object.values(IN_LAYER), 'head'];

/** The layer that a weight stands in; null for one that stands in none. */
export function layerOf(name: string): number | null {
  const match = /^layers\.(\d+)\./.exec(name);
  return match ? Number(match[1]) : null;
}

/** The role of a matrix or a table by its name; null for norms, biases and what a mechanism of attention adds. */
export function roleOf(name: string): Role | null {
  if (Object.hasOwn(TABLES, name)) return TABLES[name];
  const [, inLayer] = /^layers\.\d+\.(.+)\.weight$/.exec(name) ?? [];
  if (inLayer !== undefined) return Object.hasOwn(IN_LAYER, inLayer) ? IN_LAYER[inLayer] : null;
  return /^head\..+\.weight$/.test(name) ? 'head' : null;
}
