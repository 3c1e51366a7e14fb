import { type Dim, dim, evaluateDim, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, type ReferenceContext, shapeError } from '../op.ts';
import type { Heads, ParameterHeads } from '../ops/attention.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { addHeads } from './add-heads.ts';
import type { ProductForm } from './matrix-product.ts';
import { plainRule } from './rule.ts';

/** Where one operand stands; of a parameter's sets, head h reads ⌊h · sets / heads⌋. */
type Place =
  | { readonly input: number; readonly from: number }
  | { readonly parameter: number; readonly from: number };

export interface HeadProductAttributes {
  readonly form: ProductForm;
  readonly heads: number;
  readonly a: Place;
  readonly b: Place;
}
export type HeadProductNode = Node<'headProduct', HeadProductAttributes>;
/** The sum over sequences, and over the heads of each set, of products that belong to a parameter `[sets, P, Q]`. */
export type HeadProductSumNode = Node<'headProductSum', HeadProductAttributes>;

export type HeadOperand = Heads | ParameterHeads;

export interface HeadProductOptions {
  readonly form: ProductForm;
  readonly heads: number;
  /** Rows and columns of the result. */
  readonly rows: Dim | number;
  readonly columns: Dim | number;
}

/**
 * A product for each head of each sequence: operands `[heads …, B, rows, columns]`, or `[sets, rows, columns]` of a
 * parameter, → `[heads, B, P, Q]`. A parameter may have more rows or columns than are used: those of longer texts.
 */
export function headProduct(t: Tracer, a: HeadOperand, b: HeadOperand, options: HeadProductOptions): Value {
  const { form, heads, rows, columns } = options;
  const placed = placeOperands(a, b, heads);
  const of = 'value' in a ? a.value : 'value' in b ? b.value : null;
  if (!of) throw shapeError('headProduct', 'operands', 'at least one value', 'two parameters');
  return t.emit('headProduct', {
    inputs: placed.inputs,
    parameters: placed.parameters,
    outputs: [['y', 'float32', [dim(heads), of.shape[1], dim(rows), dim(columns)]]],
    attributes: { form, heads, a: placed.a, b: placed.b } satisfies HeadProductAttributes,
    rowWise: false,
  })[0];
}

function placeOperands(a: HeadOperand, b: HeadOperand, heads: number) {
  const inputs: Value[] = [];
  const parameters: Parameter[] = [];
  const place = (what: string, operand: HeadOperand): Place => {
    const { from } = operand;
    if ('parameter' in operand) {
      const sets = operand.parameter.shape[0];
      if (operand.parameter.shape.length !== 3 || heads % sets !== 0)
        throw shapeError(
          'headProduct',
          `sets of ${what}`,
          `a divisor of ${heads}`,
          formatShape(operand.parameter.shape),
        );
      return { parameter: parameters.push(operand.parameter) - 1, from };
    }
    const held = operand.value.shape[0]?.terms.get('') ?? 0;
    if (operand.value.shape.length !== 4 || held < from + heads)
      throw shapeError(
        'headProduct',
        `heads of ${what}`,
        `${from + heads}`,
        formatShape(operand.value.shape),
      );
    const known = inputs.indexOf(operand.value);
    return { input: known >= 0 ? known : inputs.push(operand.value) - 1, from };
  };
  return { a: place('the first operand', a), b: place('the second operand', b), inputs, parameters };
}

/** Adds the products' sum to a parameter's gradient. */
export function headProductSum(
  t: Tracer,
  a: Heads,
  b: Heads,
  form: ProductForm,
  heads: number,
  parameter: Parameter,
): void {
  const placed = placeOperands(a, b, heads);
  t.emit('headProductSum', {
    inputs: placed.inputs,
    parameters: [],
    outputs: [],
    attributes: { form, heads, a: placed.a, b: placed.b } satisfies HeadProductAttributes,
    rowWise: false,
    gradients: [parameter],
  });
}

interface Matrix {
  readonly rows: number;
  readonly columns: number;
  at(h: number, b: number, row: number, column: number): number;
}

function matrixOf(place: Place, heads: number, { inputs, parameters }: ReferenceContext): Matrix {
  const isParameter = 'parameter' in place;
  const { data, shape } = isParameter ? parameters[place.parameter] : inputs[place.input];
  const [rows, columns] = shape.slice(-2);
  const B = isParameter ? 0 : shape[1];
  return {
    rows,
    columns,
    at(h, b, row, column) {
      const head = isParameter ? Math.floor((h * shape[0]) / heads) : (place.from + h) * B + b;
      return data[(head * rows + row) * columns + column];
    },
  };
}

/** Σ over the depth for one element of a product. */
function element(form: ProductForm, a: Matrix, b: Matrix, depth: number) {
  return (h: number, s: number, p: number, q: number): number => {
    let sum = 0;
    for (let k = 0; k < depth; k++)
      sum +=
        (form === 'aᵀ·b' ? a.at(h, s, k, p) : a.at(h, s, p, k)) *
        (form === 'a·bᵀ' ? b.at(h, s, q, k) : b.at(h, s, k, q));
    return sum;
  };
}

/** The depth is that of the operand that is a value: a parameter may hold more. */
function depthOf({ form, a, b }: HeadProductAttributes, left: Matrix, right: Matrix): number {
  const [ofA, ofB] = [
    form === 'aᵀ·b' ? left.rows : left.columns,
    form === 'a·bᵀ' ? right.columns : right.rows,
  ];
  return 'input' in a && 'input' in b ? Math.min(ofA, ofB) : 'input' in a ? ofA : ofB;
}

export const headProductOp: OpDefinition<HeadProductNode> = {
  kind: 'headProduct',
  budget: { absolute: 1e-6, relative: 4e-6 },
  multiplyAdds({ attributes: { form, a, b } }, { inputs, outputs: [[G, B, P, Q]] }) {
    const [place, columns] = 'input' in a ? [a, form !== 'aᵀ·b'] : [b as { input: number }, form === 'a·bᵀ'];
    return G * B * P * Q * inputs[place.input][columns ? 3 : 2];
  },
  reference({ attributes }, context) {
    const [G, B, P, Q] = context.outputShapes[0];
    const { form, heads } = attributes;
    const [a, b] = [attributes.a, attributes.b].map((place) => matrixOf(place, heads, context));
    const at = element(form, a, b, depthOf(attributes, a, b));
    const out = new Float64Array(G * B * P * Q);
    let i = 0;
    for (let h = 0; h < G; h++)
      for (let s = 0; s < B; s++)
        for (let p = 0; p < P; p++) for (let q = 0; q < Q; q++) out[i++] = at(h, s, p, q);
    return [out];
  },
};

export const headProductSumOp: OpDefinition<HeadProductSumNode> = {
  kind: 'headProductSum',
  budget: { absolute: 1e-6, relative: 4e-6 },
  multiplyAdds({ attributes: { heads, a, b }, gradients }, { inputs }) {
    const [of, other] = [a, b].map((place) => inputs[(place as { input: number }).input]);
    const [, P, Q] = gradients![0].shape;
    return heads * of[1] * Math.min(P, of[2]) * Math.min(Q, other[3]) * Math.max(of[2], of[3]);
  },
  reference({ attributes, gradients }, context) {
    const { form, heads } = attributes;
    const [sets, rows, columns] = gradients![0].shape;
    const [a, b] = [attributes.a, attributes.b].map((place) => matrixOf(place, heads, context));
    const at = element(form, a, b, depthOf(attributes, a, b));
    const P = form === 'aᵀ·b' ? a.columns : a.rows;
    const Q = form === 'a·bᵀ' ? b.rows : b.columns;
    const B = context.inputs[0].shape[1];
    const out = new Float64Array(sets * rows * columns);
    for (let h = 0; h < heads; h++)
      for (let s = 0; s < B; s++)
        for (let p = 0; p < P; p++)
          for (let q = 0; q < Q; q++)
            out[(Math.floor((h * sets) / heads) * rows + p) * columns + q] += at(h, s, p, q);
    return [out];
  },
};

export const headProductRule = plainRule<HeadProductNode>(
  'headProduct',
  (t, { attributes, parameters }, { inputs, gradients: [dy], sink, trains }) => {
    if (!dy) return;
    const { form, heads, a, b } = attributes;
    const d: Heads = { value: dy, from: 0 };
    const operand = (place: Place): HeadOperand =>
      'input' in place
        ? { value: inputs[place.input], from: place.from }
        : { parameter: parameters[place.parameter], from: 0 };
    // Which product of dy and the other operand an operand's gradient is.
    const byA = [d, operand(b), form === 'a·bᵀ' ? 'a·b' : 'a·bᵀ'] as const satisfies readonly unknown[];
    const gradientOf = {
      a: form === 'aᵀ·b' ? ([operand(b), d, 'a·bᵀ'] as const) : byA,
      b:
        form === 'a·bᵀ'
          ? ([d, operand(a), 'aᵀ·b'] as const)
          : form === 'a·b'
            ? ([operand(a), d, 'aᵀ·b'] as const)
            : ([operand(a), d, 'a·b'] as const),
    };
    for (const [place, [left, right, of]] of [
      [a, gradientOf.a],
      [b, gradientOf.b],
    ] as const) {
      if ('parameter' in place) {
        const parameter = parameters[place.parameter];
        if (trains(parameter)) headProductSum(t, left as Heads, right as Heads, of, heads, parameter);
        continue;
      }
      if (!sink.wants(place.input)) continue;
      const x = inputs[place.input];
      const [rows, columns] = x.shape.slice(-2);
      const part = headProduct(t, left, right, { form: of, heads, rows, columns });
      const held = evaluateDim(x.shape[0], {});
      if (held === heads) sink.add(place.input, part);
      else sink.replace(place.input, addHeads(t, x.shape, sink.soFar(place.input), part, place.from));
    }
  },
);
