import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import type { Calibration, LayerSample } from '../mechanism.ts';
import { local } from '../pattern/window.ts';
import { HeadStatistics } from './head.ts';
import { analyseLayer, randomFeatureError } from './layer.ts';

const [H, D] = [2, 8];

/** Queries and keys whose scores fall with the square of the distance: exp(−(q − k)² / 2w²). */
function gaussianWindow(n: number, w: number): LayerSample {
  const queries = new Float32Array(H * n * D);
  const keys = new Float32Array(H * n * D);
  const scale = Math.sqrt(D) / (w * w);
  for (let h = 0; h < H; h++)
    for (let i = 0; i < n; i++) {
      const at = (h * n + i) * D;
      queries.set([i, 1], at);
      keys.set([i * scale, (-i * i * scale) / 2], at);
    }
  const shape = [H, n, D];
  const zeros = { shape, data: new Float32Array(H * n * D) };
  return { n, x: zeros, queries: { shape, data: queries }, keys: { shape, data: keys }, values: zeros };
}

function uniform(n: number): LayerSample {
  const made = gaussianWindow(n, 1);
  return { ...made, keys: made.values };
}

const calibration = (...samples: LayerSample[]): Calibration => ({
  async *layer() {
    yield* samples;
  },
});

describe('HeadStatistics', () => {
  it('measures a window by its own width', () => {
    const statistics = new HeadStatistics([
      { name: 'one', mask: local(4, 4) },
      { name: 'three', mask: local(12, 12) },
    ]);
    statistics.add(gaussianWindow(200, 4));
    for (const report of statistics.reports()) {
      // A normal distribution has 68 % within one deviation and 99.7 % within three; 90 % within 1.645.
      expect(report.kept.one).toBeGreaterThan(0.68);
      expect(report.kept.one).toBeLessThan(0.76);
      expect(report.kept.three).toBeGreaterThan(0.99);
      expect(report.span90).toBeGreaterThan(5.9);
      expect(report.span90).toBeLessThan(7.5);
      expect(report.entropy).toBeCloseTo(Math.log(4 * Math.sqrt(2 * Math.PI * Math.E)), 1);
      expect(report.meanDistance).toBeCloseTo(4 * Math.sqrt(2 / Math.PI), 0);
    }
  });

  it('measures uniform attention as such', () => {
    const statistics = new HeadStatistics([]);
    statistics.add(uniform(64));
    const [report] = statistics.reports();
    expect(report.entropy).toBeCloseTo(Math.log(64), 5);
    expect(report.effectiveKeys).toBeCloseTo(64, 3);
    expect(report.sparse90).toBeCloseTo(58 / 64, 5);
  });
});

describe('analyseLayer', () => {
  it('suggests the narrowest window that keeps enough', async () => {
    const report = await analyseLayer(calibration(gaussianWindow(200, 6), gaussianWindow(150, 6)), 3);
    expect(report).toMatchObject({
      layer: 3,
      meanLength: 175,
      suggestion: { attention: { kind: 'local', left: 16, right: 16 } },
    });
  });

  it('suggests no window that the texts do not test', async () => {
    const { suggestion } = await analyseLayer(calibration(gaussianWindow(20, 6)), 0);
    expect(suggestion.attention).toEqual({ kind: 'dense' });
  });

  it('keeps what spreads over everything dense', async () => {
    const { suggestion, performer } = await analyseLayer(calibration(uniform(300)), 0);
    expect(suggestion.attention).toEqual({ kind: 'dense' });
    // Queries here are token numbers: far too long for random features.
    expect(performer.usable).toBe(false);
  });
});

describe('randomFeatureError', () => {
  it('is what independent random features show', () => {
    const random = new Random(3);
    const x = [0.3, -0.2, 0.4, 0.1];
    const y = [0.1, 0.5, -0.1, 0.2];
    const norm = (v: number[]) => v.reduce((sum, a) => sum + a * a, 0);
    const exact = Math.exp(x.reduce((sum, a, d) => sum + a * y[d], 0));
    const m = 16;
    const repeats = 20_000;
    let squares = 0;
    for (let r = 0; r < repeats; r++) {
      let estimate = 0;
      for (let j = 0; j < m; j++) {
        const w = random.gaussians(4);
        const dot = (v: number[]) => v.reduce((sum, a, d) => sum + a * w[d], 0);
        estimate += Math.exp(dot(x) - norm(x) / 2) * Math.exp(dot(y) - norm(y) / 2);
      }
      squares += (estimate / m / exact - 1) ** 2;
    }
    const expected = randomFeatureError(norm(x.map((a, d) => a + y[d])), m);
    // The variance of a variance over 20,000 draws: 5 % is beyond five standard errors here.
    expect(Math.abs(Math.sqrt(squares / repeats) / expected - 1)).toBeLessThan(0.05);
  });
});
