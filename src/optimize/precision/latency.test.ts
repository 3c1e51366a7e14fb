import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { parseWidth } from '../../compress/quantize/width.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { names } from '../../model/names.ts';
import { measureLatency } from './latency.ts';
import { unitsOf } from './units.ts';

const WIDTHS = ['float16', 'int8', 'int4-g32', 'binary-g32'];

describe('measureLatency', () => {
  it('times every shape once in every width that has a kernel, and keeps what it found', async () => {
    const model = madeEncoder();
    const program = await traceEncoder(model.config, model.weights.specs);
    const units = unitsOf(program, model.weights.specs, WIDTHS);
    const kept = new Map<string, string>();
    let written = 0;
    const store = {
      async readJson<T>(key: string): Promise<T | null> {
        return JSON.parse(kept.get(key) ?? 'null');
      },
      async writeJson(key: string, value: unknown) {
        written++;
        kept.set(key, JSON.stringify(value));
      },
    };
    const first = await measureLatency(model, units, { length: 8, kept: store });
    expect(first.restMs).toBeGreaterThanOrEqual(0);
    const up = units.find(({ weight }) => weight === `${names.layer(0).up}.weight`)!;
    for (const width of WIDTHS) expect(first.unitMs(up, parseWidth(width)), width).toBeGreaterThan(0);
    expect(first.unitMs(up, parseWidth('int2-g32'))).toBeNull();
    expect(first.unitMs({ shape: [7, 7], product: true }, parseWidth('int8'))).toBeNull();
    // Tables of one width, square, up and down products, and the model.
    expect(written).toBe(5);
    const again = await measureLatency(model, units, { length: 8, kept: store });
    expect(written).toBe(5);
    expect(again.unitMs(up, parseWidth('int8'))).toBe(first.unitMs(up, parseWidth('int8')));
    expect(again.restMs).toBe(first.restMs);
  });
});
