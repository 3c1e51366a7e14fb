import { buildBlockMask } from '../../src/program/mask/block-mask.ts';
import type { AttentionNode } from '../../src/program/ops/attention.ts';
import type { Row } from '../report.ts';
import type { Subjects } from '../subjects.ts';
import { HEADS } from './cases.ts';
import { realRows } from './real.ts';
import { type Timed, timeMechanisms } from './rows.ts';
import { summaries } from './summary.ts';

/** Pairs of blocks, over all heads, that the single fused attention of a row computes. */
function keptBlocks({ case: made, n }: Timed): number | null {
  const [node] = made.program.nodes;
  if (made.program.nodes.length !== 1 || node.kind !== 'attention') return null;
  const { mask, blocks } = (node as AttentionNode).attributes;
  const size = { heads: HEADS, queries: n, keys: n, queryBlock: blocks.query, keyBlock: blocks.key };
  const { kept, heads } = buildBlockMask(mask, size);
  return (kept * HEADS) / heads;
}

/** Every mechanism from 128 to 16,384 tokens, what follows from those times, and real activations. */
export async function attention(subjects: Subjects): Promise<Row[]> {
  const real = await realRows(subjects);
  const timed = await timeMechanisms(subjects);
  return [...timed.map(({ row }) => row), ...summaries(timed, keptBlocks), ...real];
}
