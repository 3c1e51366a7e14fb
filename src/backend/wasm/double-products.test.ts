import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import { DoubleProducts, TILE } from './double-products.ts';

describe('DoubleProducts', () => {
  const random = new Random(7);
  const size = () => TILE * (1 + random.integer(5));

  it('adds products and those of the transposed, to the last bits of float64', () => {
    for (let round = 0; round < 20; round++) {
      const [m, n, p] = [size(), size(), size()];
      const products = new DoubleProducts({ out: [m, n], left: [m, p], turned: [p, m], right: [p, n] });
      const { out, left, turned, right } = products.matrices;
      for (const { values } of Object.values(products.matrices))
        for (let i = 0; i < values.length; i++) values[i] = random.gaussian();
      for (const add of [
        {
          of: (i: number, k: number) => left.values[i * p + k],
          run: () => products.add('out', 'left', 'right'),
        },
        {
          of: (i: number, k: number) => turned.values[k * m + i],
          run: () => products.addTransposed('out', 'turned', 'right'),
        },
      ]) {
        const want = out.values.map((value, at) => {
          for (let k = 0; k < p; k++) value += add.of(Math.floor(at / n), k) * right.values[k * n + (at % n)];
          return value;
        });
        add.run();
        want.forEach((value, at) => {
          expect(out.values[at]).toBeCloseTo(value, 10);
        });
      }
    }
  });
});
