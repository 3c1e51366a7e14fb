import { type Bindings, evaluateDim } from '../tensor/dim.ts';
import { type ActivationFormat, byteWidth } from '../tensor/dtype.ts';
import type { Node, Program, Value } from './program.ts';

/** One run of a node: all its rows, or `count` rows from `first` where a long sequence goes in chunks. */
export interface ScheduledNode {
  readonly node: Node;
  readonly first: number;
  readonly count: number;
  readonly stage: number;
}

export interface Placement {
  readonly offset: number;
  readonly bytes: number;
  readonly shape: readonly number[];
  /** Row that stands at `offset`: 0, or for a chunk-local value the first row of whichever chunk is running. */
  readonly local: boolean;
}

export interface MemoryLayout {
  readonly placements: ReadonlyMap<number, Placement>;
  readonly schedule: readonly ScheduledNode[];
  /** Where the bytes stand that a node asked for beside its values. */
  readonly workspaces: ReadonlyMap<Node, number>;
  /** The highest byte that any value reaches: exact, before anything is allocated. */
  readonly peakBytes: number;
}

export interface MemoryOptions {
  readonly activation: ActivationFormat;
  /** Row-wise nodes over more rows than this run in chunks of it. */
  readonly chunkRows: number;
  /** Bytes that a node needs while it runs, beside its values. */
  readonly workspace?: (node: Node, bindings: Bindings) => number;
}

const ALIGNMENT = 64;

/** A maximal run of row-wise nodes over the same rows, long enough to be chunked. */
interface Run {
  readonly from: number;
  readonly to: number;
  readonly rows: number;
}

/** What takes room from one node to another: a value, or the workspace of a node. */
interface Item {
  readonly of: Value | Node;
  readonly from: number;
  readonly to: number;
  readonly shape: readonly number[];
  readonly local: boolean;
  readonly bytes: number;
}

/** Rows that a row-wise node works on: every axis of its first input but the last; one for a node without inputs. */
export function rowsOfNode(node: Node, bindings: Bindings): number {
  return (node.inputs[0]?.shape ?? []).slice(0, -1).reduce((n, d) => n * evaluateDim(d, bindings), 1);
}

/**
 * Lifetimes → offsets in one arena, largest value first, each at the lowest place that is free while it lives
 * (greedy by size: Pisarchyk and Lee 2020, section 5).
 */
export function planMemory(program: Program, bindings: Bindings, options: MemoryOptions): MemoryLayout {
  const runs = findRuns(program, bindings, options.chunkRows);
  const runAt = (index: number): Run | undefined => runs.find((r) => index >= r.from && index < r.to);
  const lives = lifetimes(program, runAt);
  const values: Item[] = [...lives.values()].map(({ value, from, to, local }) => {
    const shape = value.shape.map((d) => evaluateDim(d, bindings));
    const elements = shape.reduce((n, d) => n * d, 1);
    const share = local ? options.chunkRows / local.rows : 1;
    return {
      of: value,
      from,
      to,
      shape,
      local: !!local,
      bytes: Math.round(elements * share) * byteWidth(value.dtype, options.activation),
    };
  });
  const workspaces = new Map<Node, number>();
  const work = program.nodes.flatMap((node, index): Item[] => {
    const bytes = options.workspace?.(node, bindings) ?? 0;
    const run = runAt(index);
    const [from, to] = run ? [run.from, run.to - 1] : [index, index];
    return bytes ? [{ of: node, from, to, shape: [], local: true, bytes }] : [];
  });
  const placements = new Map<number, Placement>();
  const placed: { from: number; to: number; offset: number; bytes: number }[] = [];
  let peakBytes = 0;
  for (const item of [...values, ...work].sort((a, b) => b.bytes - a.bytes || a.from - b.from)) {
    const meanwhile = placed
      .filter((p) => p.from <= item.to && item.from <= p.to)
      .sort((a, b) => a.offset - b.offset);
    let offset = 0;
    for (const other of meanwhile) {
      if (offset + item.bytes <= other.offset) break;
      offset = Math.max(offset, (other.offset + other.bytes + ALIGNMENT - 1) & -ALIGNMENT);
    }
    placed.push({ ...item, offset });
    const { of, bytes, shape, local } = item;
    if ('id' in of) placements.set(of.id, { offset, bytes, shape, local });
    else workspaces.set(of, offset);
    peakBytes = Math.max(peakBytes, offset + item.bytes);
  }
  return {
    placements,
    workspaces,
    schedule: schedule(program, bindings, options.chunkRows, runAt),
    peakBytes,
  };
}

function findRuns(program: Program, bindings: Bindings, chunkRows: number): Run[] {
  const runs: Run[] = [];
  for (let i = 0; i < program.nodes.length; i++) {
    if (!program.nodes[i].rowWise) continue;
    const rows = rowsOfNode(program.nodes[i], bindings);
    let to = i + 1;
    while (
      to < program.nodes.length &&
      program.nodes[to].rowWise &&
      rowsOfNode(program.nodes[to], bindings) === rows
    )
      to++;
    if (rows > chunkRows) runs.push({ from: i, to, rows });
    i = to - 1;
  }
  return runs;
}

interface Life {
  readonly value: Value;
  from: number;
  to: number;
  /** The run that the value never leaves. */
  local: Run | null;
}

function lifetimes(program: Program, runAt: (index: number) => Run | undefined): Map<number, Life> {
  const lives = new Map<number, Life>();
  const end = program.nodes.length;
  for (const value of program.inputs) lives.set(value.id, { value, from: -1, to: -1, local: null });
  program.nodes.forEach((node, index) => {
    const run = runAt(index);
    for (const value of node.outputs)
      lives.set(value.id, { value, from: index, to: index, local: run ?? null });
    for (const value of node.inputs) {
      const life = lives.get(value.id)!;
      life.to = index;
      if (life.local && life.local !== run) life.local = null;
    }
  });
  for (const value of program.outputs) Object.assign(lives.get(value.id)!, { to: end, local: null });
  // What crosses the border of a run must outlive every one of its chunks.
  for (const life of lives.values()) {
    if (life.local) continue;
    life.from = runAt(life.from)?.from ?? life.from;
    const last = runAt(life.to);
    if (last) life.to = last.to - 1;
  }
  return lives;
}

function schedule(
  program: Program,
  bindings: Bindings,
  chunkRows: number,
  runAt: (index: number) => Run | undefined,
): ScheduledNode[] {
  const out: ScheduledNode[] = [];
  const stageOf = (index: number) => program.stages.findIndex((s) => index >= s.from && index < s.to);
  for (let i = 0; i < program.nodes.length; ) {
    const run = runAt(i);
    if (!run) {
      out.push({
        node: program.nodes[i],
        first: 0,
        count: rowsOfNode(program.nodes[i], bindings),
        stage: stageOf(i),
      });
      i++;
      continue;
    }
    for (let first = 0; first < run.rows; first += chunkRows)
      for (let n = run.from; n < run.to; n++)
        out.push({
          node: program.nodes[n],
          first,
          count: Math.min(chunkRows, run.rows - first),
          stage: stageOf(n),
        });
    i = run.to;
  }
  return out;
}
