import { padHead } from '../../../src/program/ops/linear.ts';
import { ROTARY_LAYOUTS, type RotaryLayout, rotary } from '../../../src/program/ops/rotary.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase, type Fill, filled } from '../case.ts';

interface RotaryOptions {
  B?: number;
  N?: number;
  heads?: number;
  count?: number;
  size?: number;
  base?: number;
  fill?: Fill;
}

function rotaryCase(name: string, layout: RotaryLayout, options: RotaryOptions = {}): ConformanceCase {
  const { B = 2, N = 19, heads = 6, count = 4, size = 32, base, fill = 'gaussian' } = options;
  const pitch = padHead(size);
  return {
    op: 'rotary',
    name: `${name}, ${layout}`,
    finite: true,
    codes: false,
    build: (random) =>
      new CaseBuilder(random, { B, N })
        .data(
          'x',
          filled(random, heads * B * N * pitch, fill).map((v, i) => (i % pitch < size ? v : 0)),
        )
        .finish((t, input) => [
          rotary(t, input('x', [heads, symbol('B'), symbol('N'), pitch]), { count, size, base, layout }),
        ]),
  };
}

export const rotaryCases: ConformanceCase[] = ROTARY_LAYOUTS.flatMap((layout) => [
  rotaryCase('ordinary', layout),
  ...[2, 4, 6, 8, 10, 12, 14, 18, 22, 26, 30, 64].map((size) =>
    rotaryCase(`heads of ${size}`, layout, { size, B: 1, N: 5 }),
  ),
  rotaryCase('every head', layout, { count: 6 }),
  rotaryCase('one token', layout, { N: 1 }),
  rotaryCase('positions to 3,000', layout, { N: 3000, B: 1, heads: 1, count: 1, size: 8 }),
  rotaryCase('the base of ModernBERT', layout, { base: 160_000 }),
  rotaryCase('large', layout, { fill: 'large' }),
  rotaryCase('zeros', layout, { fill: 'zero' }),
]);
