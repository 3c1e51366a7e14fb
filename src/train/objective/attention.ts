import {
  attentionScoreLoss,
  type PairSource,
  relationLoss,
  weightedSum,
} from '../../program/gradient/losses.ts';
import type { Heads } from '../../program/ops/attention.ts';
import type { Value } from '../../program/program.ts';
import type { Tracer } from '../../program/trace.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { Objective, TracedAttention } from './objective.ts';
import type { RunningTeacher } from './teacher.ts';

export interface AttentionObjectiveOptions {
  /** Pairs of layers that are compared: the student's and the teacher's. */
  readonly map: readonly (readonly [student: number, teacher: number])[];
  /**
   * `scores`: before the softmax, head by head (TinyBERT). `attention`: attention and values' relations (MiniLM).
   * `relations`: of queries, of keys and of values (MiniLMv2), which need no equal number of heads.
   */
  readonly compare: 'scores' | 'attention' | 'relations';
  /** Heads that relations are split into: a divisor of both sides' heads. */
  readonly relationHeads: number;
}

type Part = 'queries' | 'keys' | 'values';

/** Which rows are multiplied with which. */
const PAIRS: Readonly<Record<AttentionObjectiveOptions['compare'], readonly (readonly [Part, Part])[]>> = {
  scores: [['queries', 'keys']],
  attention: [
    ['queries', 'keys'],
    ['values', 'values'],
  ],
  relations: [
    ['queries', 'queries'],
    ['keys', 'keys'],
    ['values', 'values'],
  ],
};

/**
 * A student's attention towards its teacher's, layer by layer: mean over layers and pairs of rows (Jiao et al. 2020,
 * equation 7; Wang et al. 2020, section 3.1; Wang et al. 2021, section 3.1). The teacher runs beside the student.
 */
export function attentionObjective(
  teacher: RunningTeacher,
  { map, compare, relationHeads }: AttentionObjectiveOptions,
): Objective {
  const theirs: TracedAttention[] = [];
  const wanted: Value[] = [];
  const shown = teacher.want((inside) => {
    for (const [, layer] of map) {
      const found = inside.attention(layer);
      theirs.push(found);
      for (const { value } of [found.queries, found.keys, found.values])
        if (!wanted.includes(value)) wanted.push(value);
    }
    return wanted;
  });
  const inputName = (i: number) => `teacher.heads${i}`;
  const sourceOf = (
    { heads, headSize, ...rows }: TracedAttention,
    [queries, keys]: readonly [Part, Part],
  ): PairSource => ({
    queries: rows[queries],
    keys: rows[keys],
    heads,
    headSize,
  });
  const lossOf = (t: Tracer, student: PairSource, other: PairSource, lengths: Value): Value =>
    compare === 'scores'
      ? attentionScoreLoss(t, student, other, lengths)
      : relationLoss(t, relationHeads, student, other, lengths);
  return {
    loss(t, model) {
      const given = wanted.map((value, i) => t.input(inputName(i), 'float32', value.shape));
      const asInput = ({ value, from }: Heads): Heads => ({ value: given[wanted.indexOf(value)], from });
      const losses = map.flatMap(([layer], i) => {
        const ours = model.attention(layer);
        if (compare === 'scores' && ours.heads !== theirs[i].heads)
          throw new AttenuateError(
            'OBJECTIVE_LAYER',
            `[train] scores of other heads: expected ${theirs[i].heads} heads as the teacher has, got ${ours.heads}. Compare relations, which need no equal number.`,
            { layer, expected: theirs[i].heads, got: ours.heads },
          );
        const { queries, keys, values, ...sizes } = theirs[i];
        const other = { ...sizes, queries: asInput(queries), keys: asInput(keys), values: asInput(values) };
        return PAIRS[compare].map((pair) =>
          lossOf(t, sourceOf(ours, pair), sourceOf(other, pair), model.lengths),
        );
      });
      return weightedSum(
        t,
        losses,
        losses.map(() => 1 / losses.length),
      );
    },
    async inputs(batch) {
      const rows = await shown(batch);
      return Object.fromEntries(rows.map((data, i) => [inputName(i), data]));
    },
    dispose: () => teacher.dispose(),
  };
}
