import { type MemoryLimits, ModuleBuilder } from './assembler.ts';
import { atomic, i32 } from './instructions.ts';
import { addKernel, type Features, KERNEL_PARAMETERS, type Kernel, type Tiles } from './kernels/kernel.ts';
import type { KernelKey, OpLowering } from './lowering.ts';

export interface KernelModule {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Floats that the kernels read; the caller puts them at `CONSTANTS_AT`. */
  readonly constants: Float32Array;
  /** Table place and descriptor fields by key. */
  readonly kernels: ReadonlyMap<KernelKey, { readonly index: number; readonly fields: Kernel['fields'] }>;
}

/** Where the kernels' constants stand: behind the control block and the packing step. */
export const CONSTANTS_AT = 256;
export const CONSTANTS_BYTES = 256;

/** Words of one step in memory: kernel, descriptor, units, units a chunk, then the counters of the threads. */
export const STEP_WORDS = 8;
const [KERNEL, DESCRIPTOR, UNITS, CHUNK, NEXT, DONE] = [0, 4, 8, 12, 16, 20];
const SPINS = 20_000;

/** Generates the module of exactly these kernels, and `execute(steps, count, scratch)` which runs steps in order. */
export function buildModule(
  keys: Iterable<KernelKey>,
  lowerings: Iterable<OpLowering>,
  features: Features,
  tiles: Tiles,
  memory: MemoryLimits,
): KernelModule {
  const module = new ModuleBuilder(memory, CONSTANTS_AT);
  const kernels = new Map<KernelKey, { index: number; fields: Kernel['fields'] }>();
  const generators = Object.assign({}, ...[...lowerings].map((lowering) => lowering.kernels));
  for (const key of keys) {
    const colon = `${key}:`.indexOf(':');
    const definition: Kernel = generators[key.slice(0, colon)](key.slice(colon + 1));
    kernels.set(key, {
      index: addKernel({ module, features, tiles }, definition),
      fields: definition.fields,
    });
  }
  (memory.shared ? executeTogether : executeAlone)(module);
  return { bytes: module.bytes(), constants: module.constantTable(), kernels };
}

const EXECUTE = { steps: 'i32', count: 'i32', scratch: 'i32' } as const;

function executeAlone(module: ModuleBuilder): void {
  const type = module.type(Object.values(KERNEL_PARAMETERS));
  module.func(
    'execute',
    EXECUTE,
    (f, p) =>
      f.while(
        () => p.count,
        () => {
          f.callIndirect(
            type,
            i32.load(p.steps, KERNEL),
            i32.load(p.steps, DESCRIPTOR),
            i32.const(0),
            i32.load(p.steps, UNITS),
            p.scratch,
          );
          f.increment(p.steps, STEP_WORDS * 4);
          f.increment(p.count, -1);
        },
      ),
    true,
  );
}

/** Every thread walks the same steps; chunks come from a counter, and a step ends when all its units are done. */
function executeTogether(module: ModuleBuilder): void {
  const type = module.type(Object.values(KERNEL_PARAMETERS));
  module.func(
    'execute',
    EXECUTE,
    (f, p) => {
      const [units, chunk, from, to, spins] = f.localArray('i32', 5);
      f.while(
        () => p.count,
        () => {
          f.set(units, i32.load(p.steps, UNITS));
          f.set(chunk, i32.load(p.steps, CHUNK));
          f.set(from, atomic.add(p.steps, chunk, NEXT));
          f.while(
            () => i32.lt_u(from, units),
            () => {
              f.set(to, i32.min_s(i32.add(from, chunk), units));
              f.callIndirect(
                type,
                i32.load(p.steps, KERNEL),
                i32.load(p.steps, DESCRIPTOR),
                from,
                to,
                p.scratch,
              );
              f.set(spins, atomic.add(p.steps, i32.sub(to, from), DONE));
              f.set(from, atomic.add(p.steps, chunk, NEXT));
            },
          );
          f.set(spins, i32.const(SPINS));
          f.while(
            () => i32.lt_u(atomic.load(p.steps, DONE), units),
            () => {
              f.increment(spins, -1);
              f.if(i32.eqz(spins), () => {
                f.set(spins, i32.const(1));
                f.set(from, atomic.load(p.steps, DONE));
                f.if(i32.lt_u(from, units), () => f.emit(atomic.wait(p.steps, from, DONE)));
              });
            },
          );
          f.increment(p.steps, STEP_WORDS * 4);
          f.increment(p.count, -1);
        },
      );
    },
    true,
  );
}
