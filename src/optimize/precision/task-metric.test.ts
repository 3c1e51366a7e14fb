import { describe, expect, it } from 'vitest';
import type { EncoderConfig, HeadSpec } from '../../model/config.ts';
import { taskMetric } from './task-metric.ts';

const config = (head: HeadSpec) => ({ head }) as EncoderConfig;
const EMBEDDING = config({ kind: 'embedding', pooling: 'mean', dense: false, normalize: true });

describe('taskMetric', () => {
  it('correlates pairs', async () => {
    const pairs = [0, 1, 2, 3].map((score) => ({ first: `a${score}`, second: `b${score}`, score }));
    const { name, texts, open } = taskMetric({ kind: 'pairs', pairs }, EMBEDDING);
    expect(name).toBe('spearman');
    const angle = (text: string) => (text[0] === 'a' ? 0 : (3 - Number(text[1])) / 3);
    const rows = texts.map((text) => Float32Array.of(Math.cos(angle(text)), Math.sin(angle(text))));
    const metric = await open(rows);
    expect(metric(rows)).toBeCloseTo(1, 12);
    expect(metric(rows.map(([x, y], i) => (i < 4 ? Float32Array.of(y, x) : rows[i])))).toBeLessThan(1);
  });

  it('counts hits of a head, also of labels that are numbers', async () => {
    const head: HeadSpec = { kind: 'classification', labels: ['no', 'yes'], poolerActivation: null };
    for (const [no, yes] of [
      ['no', 'yes'],
      ['0', '1'],
    ]) {
      const examples = [no, yes, yes, no].map((label, i) => ({ label, text: `${i}` }));
      const { texts, open } = taskMetric({ kind: 'labels', examples }, config(head));
      const rows = texts.map((text) => Float32Array.of(text === '1' ? 0.1 : 0.9, text === '1' ? 0.9 : 0.1));
      expect((await open(rows))(rows)).toBe(0.75);
    }
  });

  it('fits a probe once, on the float model, and uses it on other texts', async () => {
    const examples = Array.from({ length: 40 }, (_, i) => ({ label: i % 2 ? 'odd' : 'even', text: `${i}` }));
    const { texts, open } = taskMetric({ kind: 'labels', examples }, EMBEDDING);
    const rows = texts.map((text) => Float32Array.of(Number(text) % 2 ? 1 : -1, Math.sin(Number(text))));
    const metric = await open(rows);
    expect(metric(rows)).toBe(1);
    expect(metric(rows.map(([x, y]) => Float32Array.of(-x, y)))).toBe(0);
  });

  it('refuses what has no metric, and too little data', () => {
    const masked = config({ kind: 'maskedToken', activation: 'gelu' });
    expect(() => taskMetric({ kind: 'labels', examples: [] }, masked)).toThrow(
      expect.objectContaining({ code: 'HEAD_UNSUPPORTED' }),
    );
    expect(() => taskMetric({ kind: 'pairs', pairs: [] }, EMBEDDING)).toThrow(
      expect.objectContaining({ code: 'TASK_EMPTY' }),
    );
  });
});
