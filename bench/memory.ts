/**
 * Watches what a process holds: WebAssembly memory, ArrayBuffers and heap. Must be called before the engine that
 * is measured is imported, because it learns of WebAssembly memories as they are made.
 */
export interface MemoryWatch {
  /** Makes the state now the one that growth is counted from. */
  baseline(): void;
  sample(): void;
  /** Most bytes held at once since `baseline`, above it. */
  peakGrowth(): number;
  stop(): void;
}

/** @param collect garbage first, so that what is counted is what is held and not what is left behind */
export function watchMemory({ collect = false } = {}): MemoryWatch {
  const memories: WeakRef<WebAssembly.Memory>[] = [];
  const held = (): number => {
    if (collect) globalThis.gc?.();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return memories.reduce(
      (sum, memory) => sum + (memory.deref()?.buffer.byteLength ?? 0),
      heapUsed + arrayBuffers,
    );
  };
  let base = 0;
  let peak = 0;
  const sample = (): void => {
    peak = Math.max(peak, held());
  };
  const Original = WebAssembly.Memory;
  WebAssembly.Memory = new Proxy(Original, {
    construct(target, [descriptor], newTarget) {
      const memory: WebAssembly.Memory = Reflect.construct(target, [descriptor], newTarget);
      memories.push(new WeakRef(memory));
      sample();
      return memory;
    },
  });
  const grow = Original.prototype.grow;
  Original.prototype.grow = function (pages) {
    const before = grow.call(this, pages);
    sample();
    return before;
  };
  const timer = setInterval(sample, collect ? 5 : 1);
  return {
    baseline() {
      globalThis.gc?.();
      base = held();
      peak = base;
    },
    sample,
    peakGrowth() {
      sample();
      return peak - base;
    },
    stop() {
      clearInterval(timer);
      WebAssembly.Memory = Original;
      Original.prototype.grow = grow;
    },
  };
}
