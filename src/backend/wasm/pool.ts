/**
 * Threads over one shared memory. A run is published in a control block; every thread then walks the same steps and
 * takes chunks from counters in them, so results do not depend on how many there are. The helper threads spin for a
 * moment after each run and then sleep.
 */
const [EPOCH, OPEN, ACTIVE, STEPS, COUNT, SCRATCH, SCRATCH_BYTES, QUIT] = [0, 1, 2, 3, 4, 5, 6, 7];
export const CONTROL_BYTES = 64;
const SPINS = 4000;

export interface PoolMember {
  readonly memory: WebAssembly.Memory;
  readonly module: WebAssembly.Module;
  /** 1 for the first helper: which scratch area is its own. */
  readonly index: number;
}

/** Starts `count` helper threads on a module; resolves when all of them listen. */
export type SpawnPool = (members: readonly PoolMember[]) => Promise<{ terminate(): void }>;

type Execute = (steps: number, count: number, scratch: number) => void;

export const instantiate = (module: WebAssembly.Module, memory: WebAssembly.Memory): Execute =>
  new WebAssembly.Instance(module, { env: { memory } }).exports.execute as Execute;

/** A helper thread's whole life: waits for runs, helps with each, ends when told to. Blocks its thread. */
export function serve({ memory, module, index }: PoolMember, ready: () => void): void {
  const control = new Int32Array(memory.buffer, 0, CONTROL_BYTES / 4);
  const execute = instantiate(module, memory);
  let seen = Atomics.load(control, EPOCH);
  ready();
  for (;;) {
    for (let i = 0; i < SPINS && Atomics.load(control, EPOCH) === seen; i++);
    while (Atomics.load(control, EPOCH) === seen) Atomics.wait(control, EPOCH, seen);
    seen = Atomics.load(control, EPOCH);
    if (Atomics.load(control, QUIT)) return;
    Atomics.add(control, ACTIVE, 1);
    if (Atomics.load(control, OPEN))
      execute(control[STEPS], control[COUNT], control[SCRATCH] + index * control[SCRATCH_BYTES]);
    Atomics.sub(control, ACTIVE, 1);
  }
}

/** Runs steps on this thread and every helper; returns when all steps are done and no helper touches them. */
export function executeShared(
  memory: WebAssembly.Memory,
  execute: Execute,
  steps: number,
  count: number,
  scratch: number,
  scratchBytes: number,
): void {
  const control = new Int32Array(memory.buffer, 0, CONTROL_BYTES / 4);
  control.set([steps, count, scratch, scratchBytes], STEPS);
  Atomics.store(control, OPEN, 1);
  Atomics.add(control, EPOCH, 1);
  Atomics.notify(control, EPOCH);
  execute(steps, count, scratch);
  Atomics.store(control, OPEN, 0);
  while (Atomics.load(control, ACTIVE) > 0);
}

export function quit(memory: WebAssembly.Memory): void {
  const control = new Int32Array(memory.buffer, 0, CONTROL_BYTES / 4);
  Atomics.store(control, QUIT, 1);
  Atomics.add(control, EPOCH, 1);
  Atomics.notify(control, EPOCH);
}
