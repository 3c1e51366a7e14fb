import fc from 'fast-check';
import { describe, it } from 'vitest';
import { runReference } from '../../backend/reference/interpreter.ts';
import { WasmEngine } from '../../backend/wasm/engine.ts';
import { probeFeatures } from '../../backend/wasm/probe.ts';
import { or } from '../../program/mask/expression.ts';
import { attention, stacked } from '../../program/ops/attention.ts';
import { padHead } from '../../program/ops/linear.ts';
import { trace } from '../../program/trace.ts';
import { symbol } from '../../tensor/dim.ts';
import { Random } from '../../tensor/random.ts';
import type { AttentionContext } from '../mechanism.ts';
import { strided as pattern } from '../pattern/patterns.ts';
import { local } from '../pattern/window.ts';
import strided from './strided.ts';

const [H, D] = [2, 12];

/** The mechanism, and one attention over the union of its pairs, on the same queries, keys and values. */
function programs(stride: number, window: number) {
  const inputs = (t: Parameters<Parameters<typeof trace>[1]>[0]) => ({
    qkv: t.input('qkv', 'float32', [3 * H, symbol('B'), symbol('N'), padHead(D)]),
    lengths: t.input('lengths', 'int32', [symbol('B')]),
  });
  const mask = window >= 0 ? or(pattern(stride), local(window, window)) : pattern(stride);
  return {
    own: trace(new Map(), (t) => {
      const { qkv, lengths } = inputs(t);
      const layer = { index: 0, inputSize: H * D, heads: H, headSize: D, maxLength: 1000 };
      const context = { t, layer, x: qkv, lengths, project: () => qkv } as unknown as AttentionContext;
      t.output(strided.lower(context, { stride, window } as never));
    }),
    masked: trace(new Map(), (t) => {
      const { qkv, lengths } = inputs(t);
      const options = { heads: H, headSize: D, scale: 1 / Math.sqrt(D), mask };
      t.output(attention(t, { ...stacked(qkv, H), lengths }, options)[0]);
    }),
  };
}

describe('strided', () => {
  it('is one masked attention over the union of the stride and the window', async () => {
    const features = { ...probeFeatures(), panel: 8 as const };
    const setting = fc.record({
      n: fc.integer({ min: 1, max: 150 }),
      stride: fc.integer({ min: 1, max: 9 }),
      window: fc.integer({ min: -1, max: 20 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    await fc.assert(
      fc.asyncProperty(setting, async ({ n, stride, window, share }) => {
        const { own, masked } = programs(stride, window);
        const inputs = {
          qkv: new Random(n + stride)
            .gaussians(3 * H * 2 * n * padHead(D))
            .map((v, i) => (i % padHead(D) < D ? v : 0)),
          lengths: Int32Array.of(n, Math.round(share * n)),
        };
        const bindings = { B: 2, N: n };
        const [want] = runReference(masked, new Map(), inputs, bindings, 256);
        const engine = await WasmEngine.create(own, new Map(), {
          features,
          tiles: { float32: 4, int8: 4 },
          threads: 1,
        });
        const [got] = await engine.run(bindings, inputs);
        engine.dispose();
        const [reference] = runReference(own, new Map(), inputs, bindings, 256);
        for (const [i, w] of want.entries()) {
          if (Math.abs(got[i] - w) > 1e-5) throw new Error(`wasm at ${i}: expected ${w}, got ${got[i]}`);
          if (Math.abs(reference[i] - w) > 1e-9)
            throw new Error(`reference at ${i}: ${reference[i]}, not ${w}`);
        }
      }),
      { numRuns: 60 },
    );
  });
});
