import fc from 'fast-check';
import { describe, it } from 'vitest';
import { causal, fixed, global, randomDensity } from '../../src/attention/pattern/patterns.ts';
import { local } from '../../src/attention/pattern/window.ts';
import { WasmEngine } from '../../src/backend/wasm/engine.ts';
import { probeFeatures } from '../../src/backend/wasm/probe.ts';
import { buildBlockMask } from '../../src/program/mask/block-mask.ts';
import { and, type MaskExpression, not, or } from '../../src/program/mask/expression.ts';
import {
  type AttentionNode,
  type AttentionOptions,
  attention,
  stacked,
} from '../../src/program/ops/attention.ts';
import { rowAttention } from '../../src/program/ops/row-attention.ts';
import { scoredAttention } from '../../src/program/ops/scored-attention.ts';
import type { Value } from '../../src/program/program.ts';
import { softcap } from '../../src/program/score/expression.ts';
import { type Tracer, trace } from '../../src/program/trace.ts';
import { symbol } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';

/*
 * What a mask does not list is never read: keys and values of the blocks that a block of queries does not list become
 * NaN, which nothing that touched them could hide, and its rows stay the same to the bit.
 */

const [H, D] = [2, 8];

type Sources = ReturnType<typeof stacked> & { lengths: Value };
const OPS: Readonly<Record<string, (t: Tracer, sources: Sources, options: AttentionOptions) => Value>> = {
  attention: (t, sources, options) => attention(t, sources, options)[0],
  'attention in small blocks': (t, sources, options) =>
    attention(t, sources, { ...options, blocks: { query: 16, key: 32 } })[0],
  scoredAttention: (t, sources, options) => scoredAttention(t, sources, { ...options, score: softcap(2) })[0],
  'rowAttention, topK': (t, sources, options) => rowAttention(t, sources, options, { kind: 'topK', k: 4 })[0],
  'rowAttention, entmax15': (t, sources, options) =>
    rowAttention(t, sources, options, { kind: 'entmax15' })[0],
};

const small = fc.nat(70);
const patterns: fc.Arbitrary<MaskExpression> = fc.letrec<{ mask: MaskExpression }>((tie) => ({
  mask: fc.oneof(
    { maxDepth: 2 },
    fc.tuple(small, small).map(([left, right]) => local(left, right)),
    fc.constant(causal()),
    small.map(global),
    fc.tuple(fc.integer({ min: 2, max: 90 }), fc.integer({ min: 1, max: 2 })).map(([b, s]) => fixed(b, s)),
    fc
      .record({
        density: fc.double({ min: 0, max: 0.6, noNaN: true }),
        block: fc.integer({ min: 1, max: 64 }),
        seed: small,
      })
      .map(randomDensity),
    tie('mask').map(not),
    fc.tuple(tie('mask'), tie('mask')).map(([a, b]) => and(a, b)),
    fc.tuple(tie('mask'), tie('mask')).map(([a, b]) => or(a, b)),
  ),
})).mask;

/** Blocks of keys that each block of queries does not list. */
function unlisted(
  mask: MaskExpression,
  n: number,
  { query, key }: AttentionNode['attributes']['blocks'],
): number[][] {
  const { starts, ends, entries } = buildBlockMask(mask, {
    heads: H,
    queries: n,
    keys: n,
    queryBlock: query,
    keyBlock: key,
  });
  return Array.from(starts, (start, i) => {
    const listed = new Set(Array.from({ length: ends[i] - start }, (_, e) => entries[2 * (start + e)]));
    return Array.from({ length: Math.ceil(n / key) }, (_, k) => k).filter((k) => !listed.has(k));
  });
}

describe.each(Object.entries(OPS))('%s', (_, emit) => {
  it('reads no block that is not listed', async () => {
    await fc.assert(
      fc.asyncProperty(patterns, fc.integer({ min: 1, max: 300 }), fc.nat(), async (mask, n, seed) => {
        const program = trace(new Map(), (t) => {
          const qkv = t.input('qkv', 'float32', [3 * H, symbol('B'), symbol('N'), D]);
          const sources = { ...stacked(qkv, H), lengths: t.input('lengths', 'int32', [symbol('B')]) };
          t.output(emit(t, sources, { heads: H, headSize: D, scale: 0.4, mask }));
        });
        const { blocks } = (program.nodes[0] as AttentionNode).attributes;
        const options = {
          features: { ...probeFeatures(), panel: 8 as const },
          tiles: { float32: 4, int8: 4 },
          threads: 1,
        };
        const engine = await WasmEngine.create(program, new Map(), options);
        try {
          const qkv = new Random(seed).gaussians(3 * H * n * D);
          const run = async (data: Float32Array) =>
            (await engine.run({ B: 1, N: n }, { qkv: data, lengths: Int32Array.of(n) }))[0];
          const whole = await run(qkv);
          for (const [i, left] of unlisted(mask, n, blocks).entries()) {
            const poisoned = qkv.slice();
            for (let head = H; head < 3 * H; head++)
              for (const k of left) {
                const row = (token: number) => (head * n + Math.min(token, n)) * D;
                poisoned.fill(NaN, row(k * blocks.key), row((k + 1) * blocks.key));
              }
            const rows = [i * blocks.query * H * D, (i + 1) * blocks.query * H * D] as const;
            const [got, want] = [(await run(poisoned)).subarray(...rows), whole.subarray(...rows)];
            if (!got.every((x, at) => Object.is(x, want[at]))) return false;
          }
          return true;
        } finally {
          engine.dispose();
        }
      }),
      { numRuns: 15, seed: 4 },
    );
  }, 60_000);
});
