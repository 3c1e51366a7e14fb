import { availableParallelism, cpus, platform, release, totalmem } from 'node:os';

/** The machine that measurements were taken on. */
export interface MachineProfile {
  readonly cpu: string;
  /** Processors that this process may use. */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly engine: string;
  readonly os: string;
  readonly architecture: string;
}

/** Describes this machine; Node only. Nothing is timed. */
export function machineProfile(): MachineProfile {
  return {
    cpu: cpus()[0]?.model.trim() || 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    engine: `Node ${process.versions.node} (V8 ${process.versions.v8})`,
    os: `${platform()} ${release()}`,
    architecture: process.arch,
  };
}
