import { ModuleBuilder } from './assembler.ts';
import { f32x4, i32, i32x4, type V128, v128 } from './instructions.ts';

/** Operations per second, in billions; a multiply-add counts as two. null where the engine lacks the instruction. */
export interface Ceilings {
  readonly f32MulAdd: number;
  readonly f32Fused: number | null;
  readonly int8Dot: number | null;
  readonly int16Dot: number;
}
export type CeilingName = keyof Ceilings;

interface Loop {
  /** Operations that one instruction does. */
  readonly operations: number;
  readonly initial: V128;
  step(accumulator: V128, operand: V128): V128;
}

/** Each step reads its own accumulator, so that no engine can share or hoist the product. */
const LOOPS: Record<CeilingName, Loop> = {
  f32MulAdd: {
    operations: 8,
    initial: v128.f32x4(1),
    step: (a, x) => f32x4.add(a, f32x4.mul(a, x)),
  },
  f32Fused: {
    operations: 8,
    initial: v128.f32x4(1),
    step: (a, x) => f32x4.relaxed_madd(a, x, a),
  },
  int8Dot: {
    operations: 32,
    initial: v128.i8x16(1),
    step: (a, x) => i32x4.relaxed_dot_i8x16_i7x16_add_s(x, a, a),
  },
  int16Dot: {
    operations: 16,
    initial: v128.i32x4(1),
    step: (a, x) => i32x4.add(a, i32x4.dot_i16x8_s(a, x)),
  },
};

// Enough chains to hide the latency of two units, few enough to stay in sixteen registers.
const ACCUMULATORS = 12;
const ROUNDS = 100_000;

/** Runs `ROUNDS` rounds of the loop; null where the module is not valid here. */
export function spinLoop(name: CeilingName): { run: () => void; operations: number } | null {
  const loop = LOOPS[name];
  const module = new ModuleBuilder({ shared: false, minPages: 1, maxPages: 1 });
  module.func(
    'spin',
    { rounds: 'i32' },
    (f, p) => {
      const accumulators = f.localArray('v128', ACCUMULATORS, loop.initial);
      const operand = f.local('v128', v128.load(i32.const(0)));
      f.doWhile(
        () => {
          for (const a of accumulators) f.set(a, loop.step(a, operand));
          f.increment(p.rounds, -1);
        },
        () => p.rounds,
      );
      for (const a of accumulators) f.emit(v128.store(i32.const(16), a));
    },
    true,
  );
  const bytes = module.bytes();
  if (!WebAssembly.validate(bytes)) return null;
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  new Float32Array(memory.buffer).fill(2 ** -30, 0, 4);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  const spin = instance.exports.spin as (rounds: number) => void;
  return { run: () => spin(ROUNDS), operations: ROUNDS * ACCUMULATORS * loop.operations };
}

async function rate(name: CeilingName): Promise<number | null> {
  const loop = spinLoop(name);
  if (!loop) return null;
  const once = (): number => {
    const start = performance.now();
    loop.run();
    return loop.operations / (performance.now() - start) / 1e6;
  };
  for (let i = 0; i < 30; i++) once();
  // The optimised code is compiled on another thread.
  await new Promise((resolve) => setTimeout(resolve, 50));
  // A ceiling is the best that was seen: a neighbour can only slow a loop down.
  return Math.max(...Array.from({ length: 200 }, once));
}

let measured: Promise<Ceilings> | undefined;

/** The machine's 128-bit ceilings on one thread, measured once in this process. */
export function ceilings(): Promise<Ceilings> {
  measured ??= (async () => ({
    f32MulAdd: (await rate('f32MulAdd'))!,
    f32Fused: await rate('f32Fused'),
    int8Dot: await rate('int8Dot'),
    int16Dot: (await rate('int16Dot'))!,
  }))();
  return measured;
}
