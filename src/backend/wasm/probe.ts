import { ModuleBuilder } from './assembler.ts';
import { f32x4, i32, i32x4, v128 } from './instructions.ts';
import type { Features } from './kernels/kernel.ts';

/**
 * What this engine's relaxed instructions really compute, by executing them: engines are free to differ, and some
 * validate an instruction that they get wrong. Anything unexpected falls back to `simd128`.
 */
export function probeFeatures(): Pick<Features, 'level' | 'fused' | 'dot'> {
  const safe = { level: 'simd128', fused: false, dot: 'i16' } as const;
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const module = new ModuleBuilder({ shared: false, minPages: 1, maxPages: 1 });
  const [A, B, C] = [0, 16, 32].map((at) => v128.load(i32.const(at)));
  module.func(
    'dot',
    {},
    (f) => f.emit(v128.store(i32.const(48), i32x4.relaxed_dot_i8x16_i7x16_add_s(A, B, C))),
    true,
  );
  module.func('madd', {}, (f) => f.emit(v128.store(i32.const(48), f32x4.relaxed_madd(A, B, C))), true);
  let run: Record<string, () => void>;
  try {
    const bytes = module.bytes();
    if (!WebAssembly.validate(bytes)) return safe;
    run = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } }).exports as typeof run;
  } catch {
    return safe;
  }
  const bytes = new Int8Array(memory.buffer);
  const words = new Int32Array(memory.buffer);
  const floats = new Float32Array(memory.buffer);
  const dot = (a: number, b: number): number => {
    bytes.fill(a, 0, 16).fill(b, 16, 32);
    words.fill(7, 8, 12);
    run.dot();
    return words[12] - 7;
  };
  // 7-bit operands must be exact everywhere; what happens to the eighth bit tells how much of it may be used.
  for (const a of [127, -127, 1, -128]) for (const b of [0, 1, 127]) if (dot(a, b) !== 4 * a * b) return safe;
  const unsigned = [127, -128, 1].every((a) => dot(a, 255) === 4 * a * 255 && dot(a, 128) === 4 * a * 128);
  const signed = [127, -128, 1].every((a) => dot(a, 255) === -4 * a && dot(a, 128) === -512 * a);
  const x = 1 + 2 ** -12;
  floats
    .fill(x, 0, 4)
    .fill(x, 4, 8)
    .fill(-(1 + 2 ** -11), 8, 12);
  run.madd();
  const fused = floats[12] === 2 ** -24;
  if (!fused && floats[12] !== 0) return safe;
  return { level: 'relaxed-simd', fused, dot: unsigned ? 'u8' : signed ? 's8' : 'u7' };
}
