import type { EncoderConfig } from '../../model/config.ts';
import { tensors } from '../../model/integer/names.ts';
import { names } from '../../model/names.ts';
import type { LinearNode } from '../../program/ops/linear.ts';
import type { Program, Value } from '../../program/program.ts';
import type { WatchedValue } from '../quantize/distribution.ts';
import { productInputs } from '../quantize/product-inputs.ts';

/** The values of a floating-point encoder whose counterparts have codes, or are sums, in its integer form. */
export function watchedTensors(program: Program, config: EncoderConfig): WatchedValue[] {
  const inputs = new Map(
    productInputs(program).flatMap(({ products, values }) => products.map((name) => [name, values[0]])),
  );
  const products = new Map<string, { node: LinearNode; index: number }>();
  for (const node of program.nodes) {
    if (node.kind !== 'linear') continue;
    const linear = node as LinearNode;
    linear.parameters.slice(0, linear.attributes.parts).forEach(({ name }, index) => {
      products.set(name, { node: linear, index });
    });
  }
  const read = (name: string): Value => inputs.get(`${name}.weight`)!;
  const made = (name: string) => {
    const { node, index } = products.get(`${name}.weight`)!;
    const { parts } = node.attributes;
    return { value: node.outputs[0], ...(parts > 1 && { part: { index, of: parts } }) };
  };
  const pooled = program.nodes.find(({ kind }) => kind === 'pool')!.inputs[0];
  const { tableSize, embeddingSize } = config;
  return [
    ...((tableSize ?? embeddingSize) === embeddingSize
      ? []
      : [
          { name: tensors.narrow, value: read(names.projection) },
          { name: tensors.embedding, ...made(names.projection) },
        ]),
    ...config.layers.flatMap(({ inputSize, outputSize }, i): WatchedValue[] => {
      const at = names.layer(i);
      const to = tensors.layer(i);
      return [
        { name: to.input, value: read(at.query) },
        { name: to.query, ...made(at.query) },
        { name: to.key, ...made(at.key) },
        { name: to.value, ...made(at.value) },
        { name: to.context, value: read(at.output) },
        { name: to.sum, ...made(at.output) },
        { name: to.middle, value: read(at.up) },
        { name: to.inner, value: read(at.down) },
        { name: to.output, ...made(at.down) },
        ...(inputSize === outputSize ? [] : [{ name: to.residual, value: read(at.residual) }]),
      ];
    }),
    { name: tensors.output, value: pooled },
  ];
}
