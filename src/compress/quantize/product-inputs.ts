import type { LinearNode } from '../../program/ops/linear.ts';
import type { Program, Value } from '../../program/program.ts';
import { evaluateDim } from '../../tensor/dim.ts';

/** Products that read the same values, such as the query, key and value of a layer. */
export interface ProductInput {
  /** Names of the weights, in the order in which they are read. */
  readonly products: readonly string[];
  readonly values: readonly Value[];
  readonly columns: number;
}

/** What each product of a Program reads, in order; of a product of codes, the values that the codes stand for. */
export function productInputs(program: Program): ProductInput[] {
  const makers = new Map(program.nodes.flatMap((node) => node.outputs.map((value) => [value.id, node])));
  const byWeight = new Map<string, { columns: number; values: Value[] }>();
  for (const node of program.nodes) {
    if (node.kind !== 'linear') continue;
    const { attributes, parameters, inputs } = node as LinearNode;
    const maker = makers.get(inputs[0].id);
    const value = maker?.kind === 'quantizeRows' ? maker.inputs[0] : inputs[0];
    for (const { name } of parameters.slice(0, attributes.parts)) {
      const known = byWeight.get(name) ?? { columns: evaluateDim(value.shape.at(-1)!, {}), values: [] };
      if (!known.values.includes(value)) known.values.push(value);
      byWeight.set(name, known);
    }
  }
  const byValues = new Map<string, { products: string[]; values: readonly Value[]; columns: number }>();
  for (const [name, { columns, values }] of byWeight) {
    const key = values.map(({ id }) => id).join();
    const known = byValues.get(key) ?? { products: [], values, columns };
    known.products.push(name);
    byValues.set(key, known);
  }
  return [...byValues.values()];
}
