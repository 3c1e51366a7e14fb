import { dim, formatShape } from '../../tensor/dim.ts';
import { multiplyShift } from '../integer/dyadic.ts';
import { checkIndex, expectCodec, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export interface IntEmbeddingAttributes {
  /** Bits that the rows' multipliers stand behind the point. */
  readonly shift: number;
  readonly positions: boolean;
  readonly tokenTypes: boolean;
}
export type IntEmbeddingNode = Node<'intEmbedding', IntEmbeddingAttributes>;

/** An int8 table `[rows, C]` and its int32 multipliers `[rows]`. */
export interface IntTable {
  readonly codes: Parameter;
  readonly multiplier: Parameter;
}

export interface IntEmbeddingTables {
  readonly word: IntTable;
  readonly position?: IntTable;
  readonly tokenType?: IntTable;
}

/**
 * `Σ ⌊code · multiplier(row) / 2^shift⌉` over the tables' rows of a token, at most three: ids and types `[B, N]` →
 * int32 `[B, N, C]`. Positions beyond their table wrap round, as in `embedding`.
 */
export function intEmbedding(
  t: Tracer,
  ids: Value,
  types: Value | null,
  tables: IntEmbeddingTables,
  shift: number,
): Value {
  const used = [tables.word];
  if (tables.position) used.push(tables.position);
  const tokenTypes = !!(types && tables.tokenType);
  if (tokenTypes) used.push(tables.tokenType!);
  const columns = tables.word.codes.shape[1];
  for (const { codes, multiplier } of used) {
    expectCodec('intEmbedding', codes, 'int8');
    expectCodec('intEmbedding', multiplier, 'int32');
    if (codes.shape.length !== 2 || codes.shape[1] !== columns)
      throw shapeError(
        'intEmbedding',
        `table ${codes.name} has another width`,
        `[…, ${columns}]`,
        formatShape(codes.shape),
      );
    if (multiplier.shape.length !== 1 || multiplier.shape[0] !== codes.shape[0])
      throw shapeError(
        'intEmbedding',
        `${multiplier.name} does not fit its table`,
        `[${codes.shape[0]}]`,
        formatShape(multiplier.shape),
      );
  }
  return t.emit('intEmbedding', {
    inputs: tokenTypes ? [ids, types!] : [ids],
    parameters: used.flatMap(({ codes, multiplier }) => [codes, multiplier]),
    outputs: [['x', 'int32', [...ids.shape, dim(columns)]]],
    attributes: { shift, positions: !!tables.position, tokenTypes } satisfies IntEmbeddingAttributes,
    rowWise: false,
  })[0];
}

export const intEmbeddingOp: OpDefinition<IntEmbeddingNode> = {
  kind: 'intEmbedding',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: ({ parameters }, { outputs }) =>
    (outputs[0].reduce((a, b) => a * b, 1) * parameters.length) / 2,
  reference({ attributes: { shift, positions, tokenTypes } }, { inputs, parameters, outputShapes }) {
    const [, N, C] = outputShapes[0];
    const out = new Float64Array(outputShapes[0].reduce((a, b) => a * b, 1));
    const add = (i: number, table: number, row: number) => {
      const [{ data: codes }, { data: multipliers }] = parameters.slice(table);
      for (let c = 0; c < C; c++)
        out[i * C + c] += multiplyShift(codes[row * C + c], multipliers[row], shift);
    };
    for (let i = 0; i < inputs[0].data.length; i++) {
      checkIndex('intEmbedding', 'token id', inputs[0].data[i], parameters[0].shape[0]);
      add(i, 0, inputs[0].data[i]);
      if (positions) add(i, 2, (i % N) % parameters[2].shape[0]);
      if (tokenTypes) {
        const at = parameters.length - 2;
        checkIndex('intEmbedding', 'token type', inputs[1].data[i], parameters[at].shape[0]);
        add(i, at, inputs[1].data[i]);
      }
    }
    return [out];
  },
};
