import type { Model } from '../../model/config.ts';
import { meanSquaredError, weightedSum } from '../../program/gradient/losses.ts';
import { linear } from '../../program/ops/linear.ts';
import type { Value } from '../../program/program.ts';
import type { Tracer } from '../../program/trace.ts';
import { Random } from '../../tensor/random.ts';
import type { Objective } from './objective.ts';
import type { RunningTeacher } from './teacher.ts';

export interface LayersOptions {
  /** For each student layer the teacher's that it is to be like. */
  readonly map: readonly number[];
  /** Weight of each loss; 0 leaves it out. */
  readonly hidden: number;
  readonly embedding: number;
  readonly seed: number;
}

const projectionName = (what: string) => `distill.${what}`;

/**
 * Layer-wise distillation (Jiao et al. 2020, equations 8 and 9): mean squared error between what a student's layers and
 * its embedding give, through learned projections, and what the teacher's give, on tokens that exist. A projection
 * between equal widths begins as the identity.
 */
export function layersObjective(
  teacher: RunningTeacher,
  student: Model,
  { map, hidden, embedding, seed }: LayersOptions,
): Objective {
  const [from, to] = [student.config.embeddingSize, teacher.model.config.embeddingSize];
  const parts = [
    ...(embedding > 0 ? [{ name: 'embedding', weight: embedding, layer: -1, teacherLayer: -1 }] : []),
    ...(hidden > 0
      ? map.map((teacherLayer, layer) => ({
          name: `layer${layer}`,
          weight: hidden,
          layer,
          teacherLayer,
        }))
      : []),
  ];
  const shown = teacher.want((inside) =>
    parts.map(({ teacherLayer }) => (teacherLayer < 0 ? inside.embedding : inside.hidden(teacherLayer))),
  );
  const random = new Random(seed);
  const extra = new Map(
    parts.flatMap(({ name }) => [
      [`${projectionName(name)}.weight`, { shape: [to, from], data: projection(to, from, random) }],
      [`${projectionName(name)}.bias`, { shape: [to], data: new Float32Array(to) }],
    ]),
  );
  const lossOf = (t: Tracer, name: string, rows: Value, lengths: Value): Value => {
    const at = projectionName(name);
    const projected = linear(
      t,
      rows,
      [t.parameter(`${at}.weight`, [to, from])],
      [t.parameter(`${at}.bias`, [to])],
    );
    return meanSquaredError(t, projected, t.input(`teacher.${name}`, 'float32', projected.shape), lengths);
  };
  return {
    extra,
    loss: (t, model) =>
      weightedSum(
        t,
        parts.map(({ name, layer }) =>
          lossOf(t, name, layer < 0 ? model.embedding : model.hidden(layer), model.lengths),
        ),
        parts.map(({ weight }) => weight),
      ),
    async inputs(batch) {
      const rows = await shown(batch);
      return Object.fromEntries(parts.map(({ name }, i) => [`teacher.${name}`, rows[i]]));
    },
    dispose: () => teacher.dispose(),
  };
}

function projection(to: number, from: number, random: Random): Float32Array {
  if (to !== from) return random.gaussians(to * from, 1 / Math.sqrt(from));
  const identity = new Float32Array(to * from);
  for (let i = 0; i < to; i++) identity[i * from + i] = 1;
  return identity;
}
