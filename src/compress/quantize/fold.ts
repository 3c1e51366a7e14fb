import type { AttentionNode } from '../../program/ops/attention.ts';
import type { LinearNode } from '../../program/ops/linear.ts';
import type { Node, Program, Value } from '../../program/program.ts';
import { isFloat } from '../../tensor/codec.ts';
import type { ProductInput } from './product-inputs.ts';

/**
 * Where the columns of a product's input are scaled so that nothing else changes:
 * `rows`: in weights that make the input, whose rows are its columns (a norm's scale and bias, the value projection
 * in front of attention, a projection with no activation or ReLU), where products are all that reads it;
 * `input`: in none; the product itself scales what it reads, as it turns it into integers.
 */
export type Fold =
  | { readonly kind: 'rows'; readonly weights: readonly string[] }
  | { readonly kind: 'input' };

/**
 * How a product's input is scaled exactly. The residual sum of a post-norm encoder reads what its products read, and
 * GELU does not commute with a factor: `input` there. Null where weights are stacked whose inputs differ elsewhere.
 */
export function foldOf(program: Program, { values, products }: ProductInput): Fold | null {
  const stacked = program.nodes.filter((node) => node.kind === 'linear') as LinearNode[];
  for (const { parameters, attributes } of stacked) {
    const parts = parameters.slice(0, attributes.parts).map(({ name }) => products.includes(name));
    if (parts.includes(true) && parts.includes(false)) return null;
  }
  const weights = values.length === 1 ? new Reader(program, values[0], products).makers() : null;
  const shared = (name: string) =>
    program.nodes.filter(({ parameters }) => parameters.some((p) => p.name === name)).length > 1;
  return weights && !weights.some(shared) ? { kind: 'rows', weights } : { kind: 'input' };
}

/** One value, and the products that read it. */
class Reader {
  private readonly program: Program;
  private readonly value: Value;
  private readonly products: readonly string[];

  constructor(program: Program, value: Value, products: readonly string[]) {
    this.program = program;
    this.value = value;
    this.products = products;
  }

  /** The weights whose rows are the value's columns; null where there are none, or others read the value too. */
  makers(): readonly string[] | null {
    const { program, value } = this;
    const maker = this.makerOf(value);
    const others = this.readers(value).some((node) => !this.multiplies(node));
    if (!maker || others || program.outputs.includes(value)) return null;
    if (maker.kind === 'layerNorm') return maker.parameters.map(({ name }) => name);
    if (maker.kind === 'linear') return plainRows(maker as LinearNode);
    return maker.kind === 'attention' ? this.valueRows(maker as AttentionNode) : null;
  }

  private makerOf(value: Value): Node | undefined {
    return this.program.nodes.find((node) => node.outputs.includes(value));
  }

  private readers(value: Value): Node[] {
    return this.program.nodes.filter((node) => node.inputs.includes(value));
  }

  /** Whether a node multiplies the value by some of the products, and does nothing else with it. */
  private multiplies(node: Node): boolean {
    const isProduct = ({ kind, parameters }: Node) =>
      kind === 'linear' && this.products.includes(parameters[0].name);
    if (node.kind === 'quantizeRows') return node.outputs.every((out) => this.readers(out).every(isProduct));
    return isProduct(node) && node.inputs.lastIndexOf(this.value) === 0;
  }

  /** Attention mixes rows, never columns: a column of what it gives is the same column of the values. */
  private valueRows({ attributes, inputs }: AttentionNode): readonly string[] | null {
    const { values, queries, keys, heads, keyHeads, headSize } = attributes;
    const source = inputs[values.input];
    const maker = this.makerOf(source);
    const twice = [queries, keys].some(
      (place) => 'input' in place && inputs[place.input] === source && place.from === values.from,
    );
    if (maker?.kind !== 'linear' || twice || heads !== keyHeads || this.readers(source).length > 1)
      return null;
    const { attributes: made, parameters } = maker as LinearNode;
    if (made.activation !== 'none' || made.heads?.size !== headSize) return null;
    let from = 0;
    for (let part = 0; part < made.parts; part++) {
      const { name, shape, codec } = parameters[part];
      if (from === values.from && shape[0] === heads * headSize && isFloat(codec))
        return [name, parameters[made.parts + part].name];
      from += shape[0] / headSize;
    }
    return null;
  }
}

function plainRows({ attributes, parameters }: LinearNode): readonly string[] | null {
  const { activation, residual, parts, heads } = attributes;
  const commutes = activation === 'none' || activation === 'relu';
  if (!commutes || residual || parts !== 1 || heads || !isFloat(parameters[0].codec)) return null;
  return parameters.map(({ name }) => name);
}
