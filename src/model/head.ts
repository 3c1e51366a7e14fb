import { linear } from '../program/ops/linear.ts';
import { l2Normalize, softmax } from '../program/ops/normalize.ts';
import { pool } from '../program/ops/pool.ts';
import { selectRows } from '../program/ops/select-rows.ts';
import type { Value } from '../program/program.ts';
import type { Tracer } from '../program/trace.ts';
import { symbol } from '../tensor/dim.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { EncoderConfig, HeadSpec } from './config.ts';
import { dense, norm } from './named.ts';
import { names } from './names.ts';

const widthOf = ({ layers, embeddingSize }: EncoderConfig): number =>
  layers.at(-1)?.outputSize ?? embeddingSize;

/** What a model gives of its last rows, `[B, N, C]`. */
export function head(t: Tracer, config: EncoderConfig, spec: HeadSpec, x: Value, lengths: Value): Value {
  if (spec.kind !== 'maskedToken')
    return headOfPooled(
      t,
      config,
      spec,
      pool(t, x, lengths, spec.kind === 'embedding' ? spec.pooling : 'first'),
    );
  const C = widthOf(config);
  if (config.tableSize !== undefined && config.tableSize !== C)
    throw new AttenuateError(
      'HEAD_UNSUPPORTED',
      `[trace] masked-token head over narrow tables: expected tables of width ${C}, got ${config.tableSize}. Keep the table whole, or choose another head.`,
      { tableSize: config.tableSize },
    );
  const picked = selectRows(t, x, t.input('rows', 'int32', [symbol('B'), symbol('P')])); // [B, P, C]
  const transformed = dense(t, picked, names.head.transform, [C, C], { activation: spec.activation });
  const h = norm(t, transformed, names.head.norm, C, config.epsilon);
  return softmax(
    t,
    linear(
      t,
      h,
      [t.parameter(names.word, [config.vocabularySize, C])],
      [t.parameter(names.head.bias, [config.vocabularySize])],
    ),
  );
}

/** What a head makes of pooled rows, `[B, C]`. */
export function headOfPooled(
  t: Tracer,
  config: EncoderConfig,
  spec: Exclude<HeadSpec, { kind: 'maskedToken' }>,
  pooled: Value,
): Value {
  const C = widthOf(config);
  let y = pooled;
  if (spec.kind === 'embedding') {
    if (spec.dense) {
      const size = t.parameter(`${names.head.dense}.weight`).shape[0];
      y = dense(t, y, names.head.dense, [size, C], { activation: 'tanh' });
    }
    return spec.normalize ? l2Normalize(t, y) : y;
  }
  if (spec.poolerActivation)
    y = dense(t, y, names.head.pooler, [C, C], { activation: spec.poolerActivation });
  return softmax(t, dense(t, y, names.head.classifier, [spec.labels.length, C]));
}
