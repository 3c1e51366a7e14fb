import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, type PeerName } from '../peers.ts';
import type { Contender } from '../timing.ts';
import { HEADS } from './inputs.ts';
import type { Reply, Request } from './peer-child.ts';
import { ATTENTION_GRAPHS, type AttentionGraph } from './peer-graph.ts';

export interface AttentionPeer {
  readonly kind: AttentionGraph;
  /** Most memory that it held above its inputs, from opening to the end of the first run. */
  readonly peakBytes: number;
  /** Endless from the call on that fails, and `failure` says why. */
  readonly contender: Extract<Contender, { time: unknown }>;
  failure(): string | null;
  /** Rows of its output `[n, H·D]`, one after another. */
  rows(indices: readonly number[]): Promise<readonly number[]>;
  dispose(): void;
}

const CHILD = fileURLToPath(new URL('./peer-child.ts', import.meta.url));
const TIMEOUT_MS = 150_000;
/** What a graph's matrix of scores may take where nothing else stops it: beyond it the machine itself runs out. */
const MOST_SCORE_BYTES = 2e9;

function ask(child: ChildProcess, request: Request): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const done = (act: () => void) => {
      clearTimeout(timer);
      child.off('message', replied).off('exit', ended);
      act();
    };
    const replied = (reply: Reply) =>
      done(() => ('error' in reply ? reject(new Error(reply.error)) : resolve(reply)));
    const ended = (code: number | null, signal: string | null) =>
      done(() => reject(new Error(`its process ended with ${signal ?? code}`)));
    const timer = setTimeout(
      () => done(() => reject(new Error(`not done in ${TIMEOUT_MS / 1000} s`))),
      TIMEOUT_MS,
    );
    child.on('message', replied).on('exit', ended);
    child.send(request);
  });
}

async function openPeer(
  name: PeerName,
  kind: AttentionGraph,
  n: number,
  headSize: number,
): Promise<AttentionPeer> {
  const child = fork(CHILD, {
    execArgv: ['--expose-gc', '--no-warnings'],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const dispose = () => {
    child.kill('SIGKILL');
  };
  try {
    const reply = await ask(child, { open: { name, kind, n, headSize } });
    let failure: string | null = null;
    const time = async (repeats: number): Promise<number> => {
      if (failure) return Infinity;
      try {
        return ((await ask(child, { time: repeats })) as { ms: number }).ms;
      } catch (error) {
        failure = describe(error);
        return Infinity;
      }
    };
    return {
      kind,
      peakBytes: (reply as { peakBytes: number }).peakBytes,
      contender: { time },
      failure: () => failure,
      rows: async (rows) => ((await ask(child, { rows })) as { values: number[] }).values,
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** The faster graph of a peer that runs here, or why none does. */
export async function openFastest(
  name: PeerName,
  n: number,
  headSize: number,
): Promise<AttentionPeer | { reasons: string }> {
  const open: { peer: AttentionPeer; ms: number }[] = [];
  const reasons: string[] = [];
  const scoreBytes = HEADS * n * n * 4;
  for (const kind of ATTENTION_GRAPHS)
    try {
      if (name === 'onnxruntime-node' && kind === 'plain' && scoreBytes > MOST_SCORE_BYTES)
        throw new Error(`not tried: its scores alone take ${(scoreBytes / 1e9).toFixed(1)} GB`);
      const peer = await openPeer(name, kind, n, headSize);
      open.push({ peer, ms: await peer.contender.time(1) });
    } catch (error) {
      reasons.push(`${kind} graph: ${describe(error)}`);
    }
  open.sort((a, b) => a.ms - b.ms);
  for (const { peer } of open.slice(1)) peer.dispose();
  return open[0]?.peer ?? { reasons: reasons.join('; ') };
}
