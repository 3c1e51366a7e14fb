import { AttenuateError } from './error.ts';

/** The symbols a Program may be traced in: batch, sequence length, rows picked by a head. */
export type Symbol = 'B' | 'N' | 'P';
export type Bindings = Readonly<Partial<Record<Symbol, number>>>;

/**
 * A dimension: a polynomial with integer coefficients in the symbols and in parts of them, e.g. `B·N`, `3·N + 1` or
 * `12·⌈N/64⌉`. Keys of `terms` are the factors of a product in alphabetical order, joined by `·` (`''` for the
 * constant).
 */
export interface Dim {
  readonly terms: ReadonlyMap<string, number>;
}

export type DimLike = Dim | number;

const make = (terms: Map<string, number>): Dim => {
  for (const [key, coefficient] of terms) if (coefficient === 0) terms.delete(key);
  return { terms };
};

export const symbol = (name: Symbol): Dim => make(new Map([[name, 1]]));

/** How many blocks of `by` cover a symbol: ⌈symbol / by⌉. */
export const blocksOf = (name: Symbol, by: number): Dim =>
  by === 1 ? symbol(name) : make(new Map([[`⌈${name}/${by}⌉`, 1]]));

export function dim(value: DimLike): Dim {
  return typeof value === 'number' ? make(new Map([['', value]])) : value;
}

export function addDims(a: DimLike, b: DimLike): Dim {
  const terms = new Map(dim(a).terms);
  for (const [key, c] of dim(b).terms) terms.set(key, (terms.get(key) ?? 0) + c);
  return make(terms);
}

const factors = (key: string): string[] => (key === '' ? [] : key.split('·'));

export function mulDims(a: DimLike, b: DimLike): Dim {
  const terms = new Map<string, number>();
  for (const [ka, ca] of dim(a).terms)
    for (const [kb, cb] of dim(b).terms) {
      const key = [...factors(ka), ...factors(kb)].sort().join('·');
      terms.set(key, (terms.get(key) ?? 0) + ca * cb);
    }
  return make(terms);
}

export function equalDims(a: DimLike, b: DimLike): boolean {
  const x = dim(a).terms;
  const y = dim(b).terms;
  return x.size === y.size && [...x].every(([key, c]) => y.get(key) === c);
}

/** The dimension's value. @throws `DIM_UNBOUND` when a symbol has no binding. */
export function evaluateDim(value: DimLike, bindings: Bindings): number {
  let sum = 0;
  for (const [key, coefficient] of dim(value).terms) {
    let product = coefficient;
    for (const factor of factors(key)) {
      const [, part, by] = /^⌈(.)\/(\d+)⌉$/.exec(factor) ?? [];
      const name = part ?? factor;
      const bound = bindings[name as Symbol];
      if (bound === undefined)
        throw new AttenuateError(
          'DIM_UNBOUND',
          `[dim] symbol without a value: expected ${name}, got ${JSON.stringify(bindings)}. Bind ${name}.`,
          { symbol: name },
        );
      product *= by ? Math.ceil(bound / Number(by)) : bound;
    }
    sum += product;
  }
  return sum;
}

export function formatDim(value: DimLike): string {
  const parts = [...dim(value).terms].map(([key, c]) =>
    key === '' ? `${c}` : c === 1 ? key : `${c}·${key}`,
  );
  return parts.length ? parts.join(' + ') : '0';
}

export const formatShape = (shape: readonly DimLike[]): string => `[${shape.map(formatDim).join(', ')}]`;

export const equalShapes = (a: readonly DimLike[], b: readonly DimLike[]): boolean =>
  a.length === b.length && a.every((x, i) => equalDims(x, b[i]));
