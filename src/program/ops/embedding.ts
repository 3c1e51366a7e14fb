import { dim, formatShape } from '../../tensor/dim.ts';
import { checkIndex, type OpDefinition, type ReferenceParameter, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export interface EmbeddingAttributes {
  readonly wordScale: number;
  readonly tokenTypes: boolean;
  readonly positions: boolean;
}
export type EmbeddingNode = Node<'embedding', EmbeddingAttributes>;

export interface EmbeddingTables {
  word: Parameter;
  position?: Parameter;
  tokenType?: Parameter;
}

/**
 * `wordScale · word[id] + position[n mod P] + tokenType[type]`: ids and types `[B, N]` → `[B, N, C]`.
 * A table stored as float16 or bfloat16 is read as the floats it decodes to, one in an integer codec as (code − zero) · scale.
 * Positions beyond the table wrap round; whether a model may be that long is the caller's to decide.
 */
export function embedding(
  t: Tracer,
  ids: Value,
  types: Value | null,
  tables: EmbeddingTables,
  wordScale = 1,
): Value {
  const columns = tables.word.shape[1];
  for (const table of [tables.position, tables.tokenType])
    if (table && table.shape[1] !== columns)
      throw shapeError(
        'embedding',
        `table ${table.name} has another width`,
        `[…, ${columns}]`,
        formatShape(table.shape),
      );
  const parameters = [tables.word];
  if (tables.position) parameters.push(tables.position);
  if (types && tables.tokenType) parameters.push(tables.tokenType);
  const tokenTypes = !!(types && tables.tokenType);
  return t.emit('embedding', {
    inputs: tokenTypes ? [ids, types!] : [ids],
    parameters,
    outputs: [['x', 'float32', [...ids.shape, dim(columns)]]],
    attributes: { wordScale, tokenTypes, positions: !!tables.position } satisfies EmbeddingAttributes,
    rowWise: false,
  })[0];
}

export const embeddingOp: OpDefinition<EmbeddingNode> = {
  kind: 'embedding',
  budget: { absolute: 1e-7, relative: 1e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1),
  reference({ attributes }, { inputs, parameters, outputShapes }) {
    const [, N, C] = outputShapes[0];
    const out = new Float64Array(outputShapes[0].reduce((a, b) => a * b, 1));
    const [word] = parameters;
    const position = attributes.positions ? parameters[1] : null;
    const type = attributes.tokenTypes ? parameters.at(-1)! : null;
    const at = ({ data, quantization: q }: ReferenceParameter, row: number, c: number) => {
      const i = row * C + c;
      if (!q) return data[i];
      const group = Math.floor(i / q.groupSize);
      return (data[i] - (q.zeros?.[group] ?? 0)) * q.scales[group];
    };
    for (let i = 0; i < inputs[0].data.length; i++) {
      checkIndex('embedding', 'token id', inputs[0].data[i], word.shape[0]);
      if (type) checkIndex('embedding', 'token type', inputs[1].data[i], type.shape[0]);
      for (let c = 0; c < C; c++) {
        let x = attributes.wordScale * at(word, inputs[0].data[i], c);
        if (position) x += at(position, (i % N) % position.shape[0], c);
        if (type) x += at(type, inputs[1].data[i], c);
        out[i * C + c] = x;
      }
    }
    return [out];
  },
};
