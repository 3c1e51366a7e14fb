import { afterEach, describe, expect, it, vi } from 'vitest';
import { buildCase, CASES } from '../../../../test/conformance/cases.ts';
import { compare } from '../../../../test/conformance/check.ts';
import { runReference } from '../../reference/interpreter.ts';
import { WasmEngine } from '../engine.ts';
import { i32x4, type V128, v128 } from '../instructions.ts';
import { probeFeatures } from '../probe.ts';
import type { Features } from './kernel.ts';

/** An instruction of one operand that no kernel has. */
const unary = (opcode: number, x: V128): V128 => ({ type: 'v128', code: [x.code, 0xfd, opcode, 0x01] });
const [EXTEND_LOW, EXTEND_HIGH, EXTEND_LOW_UNSIGNED, EXTEND_HIGH_UNSIGNED] = [0x87, 0x88, 0x89, 0x8a];

/** What the fused product gives where it is exact for 8 bits: by signed or by unsigned second operands. */
function exactDot(unsigned: boolean): (a: V128, b: V128, c: V128) => V128 {
  return (a, b, c) => {
    const low = i32x4.dot_i16x8_s(
      unary(EXTEND_LOW, a),
      unary(unsigned ? EXTEND_LOW_UNSIGNED : EXTEND_LOW, b),
    );
    const high = i32x4.dot_i16x8_s(
      unary(EXTEND_HIGH, a),
      unary(unsigned ? EXTEND_HIGH_UNSIGNED : EXTEND_HIGH, b),
    );
    const lanes = (from: number) => [0, 8, 16, 24].flatMap((at) => [0, 1, 2, 3].map((i) => from + at + i));
    const pairs = i32x4.add(v128.shuffle(low, high, lanes(0)), v128.shuffle(low, high, lanes(4)));
    return i32x4.add(c, pairs);
  };
}

const cases = CASES.filter(({ op }) => op === 'integerAttention');

async function run(features: Features, rows: number): Promise<void> {
  expect(cases.length).toBeGreaterThan(50);
  for (const c of cases) {
    const built = buildCase(c);
    const [want] = runReference(built.program, built.weights, built.inputs, built.bindings, 256);
    const tiles = { float32: 4, int8: rows };
    const engine = await WasmEngine.create(built.program, built.weights, { features, tiles, threads: 1 });
    const loader = engine.loader(built.weights);
    for (const [name, { bytes }] of built.weights) loader.accept(name, 0, bytes);
    loader.finish();
    const [got] = await engine.run(built.bindings, built.inputs);
    engine.dispose();
    const { ok, message } = compare(c.budget!, got, want);
    expect(ok, `${c.name}: ${message}`).toBe(true);
  }
}

/*
 * Devices differ in what their fused product does with the eighth bit, and a machine has only one of them: here that
 * one instruction is written out for the others.
 */
describe('integer attention where products take 8 bits', () => {
  afterEach(() => vi.restoreAllMocks());

  it.each(['u8', 's8'] as const)('%s', async (dot) => {
    const product = vi
      .spyOn(i32x4, 'relaxed_dot_i8x16_i7x16_add_s')
      .mockImplementation(exactDot(dot === 'u8') as never);
    const { level, fused } = probeFeatures();
    await run({ level, fused, dot, panel: 8 }, dot === 'u8' ? 4 : 3);
    expect(product).toHaveBeenCalled();
  });
});
