/**
 * Writes ONNX models at the level of the protobuf wire format (onnx.proto3): enough for the graphs that the
 * benchmark hands to its peers. A message is a list of byte pieces, joined once at the end, so that a weight
 * is copied a single time.
 */
type Message = Uint8Array[];

const WIRE = { varint: 0, bytes: 2, fixed32: 5 } as const;

function varint(value: number | bigint): Uint8Array {
  const out: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 0x7fn) {
    out.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  out.push(Number(rest));
  return Uint8Array.from(out);
}

const tag = (field: number, wire: number): Uint8Array => varint((field << 3) | wire);
const integer = (field: number, value: number | bigint): Message => [tag(field, WIRE.varint), varint(value)];
const float = (field: number, value: number): Message => [
  tag(field, WIRE.fixed32),
  new Uint8Array(new Float32Array([value]).buffer),
];
const bytes = (field: number, ...pieces: Uint8Array[]): Message => {
  const length = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  return [tag(field, WIRE.bytes), varint(length), ...pieces];
};
const text = (field: number, value: string): Message => bytes(field, new TextEncoder().encode(value));

/** TensorProto.DataType */
export const TYPES = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7 } as const;
export type ElementType = keyof typeof TYPES;

type Data = Float32Array | Uint8Array | Int8Array | Int32Array | BigInt64Array;
const typeOf = (data: Data): ElementType => {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Uint8Array) return 'uint8';
  if (data instanceof Int8Array) return 'int8';
  return data instanceof Int32Array ? 'int32' : 'int64';
};

/** A float attribute is written `{ float: x }`: a JavaScript number does not say which of the two it is. */
export type Attribute = number | string | readonly number[] | { readonly float: number };

function attributeMessage(name: string, value: Attribute): Message {
  const head = text(1, name);
  if (typeof value === 'number') return [...head, ...integer(3, value), ...integer(20, 2)];
  if (typeof value === 'string') return [...head, ...text(4, value), ...integer(20, 3)];
  if ('float' in value) return [...head, ...float(2, value.float), ...integer(20, 1)];
  return [...head, ...value.flatMap((x) => integer(8, x)), ...integer(20, 7)];
}

const valueInfo = (name: string, type: ElementType, shape: readonly (number | string)[]): Message => {
  const dims = shape.flatMap((d) => bytes(1, ...(typeof d === 'string' ? text(2, d) : integer(1, d))));
  const tensorType = [...integer(1, TYPES[type]), ...bytes(2, ...dims)];
  return [...text(1, name), ...bytes(2, ...bytes(1, ...tensorType))];
};

export class OnnxGraph {
  readonly #nodes: Message[] = [];
  readonly #initializers: Message[] = [];
  readonly #inputs: Message[] = [];
  readonly #outputs: Message[] = [];
  readonly #shared = new Map<string, string>();
  #names = 0;

  #name(prefix: string): string {
    return `${prefix}_${this.#names++}`;
  }

  input(name: string, type: ElementType, shape: readonly (number | string)[]): string {
    this.#inputs.push(valueInfo(name, type, shape));
    return name;
  }

  output(name: string, value: string, type: ElementType, shape: readonly (number | string)[]): void {
    this.#node('Identity', [value], [name], {}, '');
    this.#outputs.push(valueInfo(name, type, shape));
  }

  /** A constant tensor. */
  constant(data: Data, shape: readonly number[]): string {
    const name = this.#name('constant');
    this.#initializers.push([
      ...shape.flatMap((d) => integer(1, d)),
      ...integer(2, TYPES[typeOf(data)]),
      ...text(8, name),
      ...bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
    ]);
    return name;
  }

  scalar(value: number): string {
    return this.#once(`float ${value}`, () => this.constant(Float32Array.of(value), []));
  }

  /** A vector of int64: shapes, axes and slice bounds. */
  integers(...values: number[]): string {
    return this.#once(`int ${values}`, () =>
      this.constant(BigInt64Array.from(values, BigInt), [values.length]),
    );
  }

  #once(key: string, make: () => string): string {
    const known = this.#shared.get(key) ?? make();
    this.#shared.set(key, known);
    return known;
  }

  /** Adds a node with one output. An empty input name leaves an optional input out. */
  op(type: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): string {
    return this.#emit(type, inputs, attributes, 1, '')[0];
  }

  /** Adds a node with several outputs. */
  ops(type: string, inputs: readonly string[], count: number): string[] {
    return this.#emit(type, inputs, {}, count, '');
  }

  /** Adds a node of onnxruntime's own operator set. */
  contrib(type: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): string {
    return this.#emit(type, inputs, attributes, 1, 'com.microsoft')[0];
  }

  #emit(
    type: string,
    inputs: readonly string[],
    attributes: Record<string, Attribute>,
    count: number,
    domain: string,
  ): string[] {
    const outputs = Array.from({ length: count }, () => this.#name(type));
    this.#node(type, inputs, outputs, attributes, domain);
    return outputs;
  }

  #node(
    type: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Record<string, Attribute>,
    domain: string,
  ): void {
    this.#nodes.push([
      ...inputs.flatMap((name) => text(1, name)),
      ...outputs.flatMap((name) => text(2, name)),
      ...text(3, this.#name('node')),
      ...text(4, type),
      ...Object.entries(attributes).flatMap(([name, value]) => bytes(5, ...attributeMessage(name, value))),
      ...(domain ? text(7, domain) : []),
    ]);
  }

  /** The whole model file. */
  bytes(): Uint8Array {
    const list = (field: number, messages: Message[]): Message => messages.flatMap((m) => bytes(field, ...m));
    const graph = [
      ...list(1, this.#nodes),
      ...text(2, 'graph'),
      ...list(5, this.#initializers),
      ...list(11, this.#inputs),
      ...list(12, this.#outputs),
    ];
    return Buffer.concat([
      ...integer(1, 8),
      ...text(2, 'attenuate-bench'),
      ...bytes(7, ...graph),
      ...bytes(8, ...integer(2, 17)),
      ...bytes(8, ...text(1, 'com.microsoft'), ...integer(2, 1)),
    ]);
  }
}
