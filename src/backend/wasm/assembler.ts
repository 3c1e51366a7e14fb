import { type Code, flatten, section, sized, text, uleb, vector } from './encoding.ts';
import { type Expression, type I32, i32, type Statement, type ValueType, v128 } from './instructions.ts';

const TYPE_CODE: Record<ValueType, number> = { i32: 0x7f, f32: 0x7d, v128: 0x7b };

export interface Variable<T extends ValueType> extends Expression<T> {
  readonly index: number;
}
type Parameters = Record<string, ValueType>;
type Variables<P extends Parameters> = { [K in keyof P]: Variable<P[K]> };

export interface MemoryLimits {
  readonly shared: boolean;
  readonly minPages: number;
  readonly maxPages: number;
}

/** The body of one function: statements in order, loops and branches as TypeScript callbacks. */
export class FunctionBuilder {
  readonly body: Code[] = [];
  readonly locals: ValueType[] = [];
  /** Runs before the body: loads of constants. */
  readonly prologue: Code[] = [];
  private readonly parameterCount: number;
  private readonly addressOf: (constant: number) => number;
  private readonly constants = new Map<number, Variable<'v128'>>();

  constructor(parameterCount: number, addressOf: (constant: number) => number) {
    this.parameterCount = parameterCount;
    this.addressOf = addressOf;
  }

  /**
   * Four times the float `x`, from the module's table in memory into a local, once a call. V8 rebuilds a `v128.const`
   * from integers at each use, which costs more than the arithmetic of a polynomial.
   */
  constant(x: number): Variable<'v128'> {
    let known = this.constants.get(x);
    if (!known) {
      known = this.local('v128');
      this.constants.set(x, known);
      this.prologue.push(v128.load32_splat(i32.const(this.addressOf(x))).code, 0x21, uleb(known.index));
    }
    return known;
  }

  local<T extends ValueType>(type: T, initial?: Expression<T>): Variable<T> {
    const index = this.parameterCount + this.locals.length;
    this.locals.push(type);
    const variable: Variable<T> = { type, index, code: [0x20, ...uleb(index)] };
    if (initial) this.set(variable, initial);
    return variable;
  }

  localArray<T extends ValueType>(type: T, length: number, initial?: Expression<T>): Variable<T>[] {
    return Array.from({ length }, () => this.local(type, initial));
  }

  emit(statement: Statement): void {
    this.body.push(statement);
  }

  set<T extends ValueType>(variable: Variable<T>, x: Expression<T>): void {
    this.body.push(x.code, 0x21, uleb(variable.index));
  }

  increment(variable: Variable<'i32'>, by: number | I32): void {
    this.set(variable, i32.add(variable, typeof by === 'number' ? i32.const(by) : by));
  }

  if(condition: I32, then: () => void, otherwise?: () => void): void {
    this.body.push(condition.code, 0x04, 0x40);
    then();
    if (otherwise) {
      this.body.push(0x05);
      otherwise();
    }
    this.body.push(0x0b);
  }

  doWhile(body: () => void, condition: () => I32): void {
    this.body.push(0x03, 0x40);
    body();
    this.body.push(condition().code, 0x0d, 0x00, 0x0b);
  }

  while(condition: () => I32, body: () => void): void {
    this.if(condition(), () => this.doWhile(body, condition));
  }

  /** `for (v = from; v < to; v += step)`, unsigned, tested before the first round. */
  for(variable: Variable<'i32'>, from: I32, to: I32, step: number | I32, body: () => void): void {
    this.set(variable, from);
    this.while(
      () => i32.lt_u(variable, to),
      () => {
        body();
        this.increment(variable, step);
      },
    );
  }

  call(func: number, ...args: readonly Expression<ValueType>[]): void {
    this.body.push(
      args.map((a) => a.code),
      0x10,
      uleb(func),
    );
  }

  /** Calls entry `index` of the module's table, whose functions all take `types` and give nothing. */
  callIndirect(type: number, index: I32, ...args: readonly Expression<ValueType>[]): void {
    this.body.push(
      args.map((a) => a.code),
      index.code,
      0x11,
      uleb(type),
      0x00,
    );
  }
}

interface FunctionEntry {
  readonly name: string;
  readonly type: number;
  readonly builder: FunctionBuilder;
  readonly exported: boolean;
}

/** A WebAssembly module over an imported memory `env.memory`. Functions give no results. */
export class ModuleBuilder {
  private readonly functions: FunctionEntry[] = [];
  private readonly types: { key: string; code: Code }[] = [];
  private readonly table: number[] = [];
  private readonly constants: number[] = [];
  private readonly memory: MemoryLimits;
  private readonly constantsAt: number;

  /** @param constantsAt where in memory the caller puts `constantTable()` before anything runs */
  constructor(memory: MemoryLimits, constantsAt = 0) {
    this.memory = memory;
    this.constantsAt = constantsAt;
  }

  constantTable(): Float32Array {
    return Float32Array.from(this.constants);
  }

  private addressOf(constant: number): number {
    const known = this.constants.indexOf(constant);
    return this.constantsAt + 4 * (known >= 0 ? known : this.constants.push(constant) - 1);
  }

  type(parameters: readonly ValueType[]): number {
    const key = parameters.join();
    const known = this.types.findIndex((t) => t.key === key);
    return known >= 0
      ? known
      : this.types.push({ key, code: [0x60, vector(parameters.map((p) => TYPE_CODE[p])), 0] }) - 1;
  }

  /** Adds a function; gives its index, for `call`. */
  func<P extends Parameters>(
    name: string,
    parameters: P,
    build: (f: FunctionBuilder, p: Variables<P>) => void,
    exported = false,
  ): number {
    const types = Object.values(parameters);
    const builder = new FunctionBuilder(types.length, (x) => this.addressOf(x));
    const variables = Object.fromEntries(
      Object.keys(parameters).map((key, index) => [
        key,
        { type: parameters[key], index, code: [0x20, ...uleb(index)] },
      ]),
    );
    build(builder, variables as unknown as Variables<P>);
    return this.functions.push({ name, type: this.type(types), builder, exported }) - 1;
  }

  /** Puts a function into the table; gives its place there, for `callIndirect`. */
  tabulate(func: number): number {
    return this.table.push(func) - 1;
  }

  bytes(): Uint8Array<ArrayBuffer> {
    const { shared, minPages, maxPages } = this.memory;
    const body = ({ builder }: FunctionEntry): Code =>
      sized([
        vector(builder.locals.map((type) => [1, TYPE_CODE[type]])),
        builder.prologue,
        builder.body,
        0x0b,
      ]);
    const exports = this.functions.flatMap((f, i) => (f.exported ? [[text(f.name), 0, uleb(i)]] : []));
    return flatten([
      [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      section(1, vector(this.types.map((t) => t.code))),
      section(2, vector([[text('env'), text('memory'), 2, shared ? 3 : 1, uleb(minPages), uleb(maxPages)]])),
      section(3, vector(this.functions.map((f) => uleb(f.type)))),
      this.table.length ? section(4, [1, 0x70, 0, uleb(this.table.length)]) : [],
      section(7, vector(exports)),
      this.table.length ? section(9, [1, 0, 0x41, 0, 0x0b, vector(this.table.map((f) => uleb(f)))]) : [],
      section(10, vector(this.functions.map(body))),
    ]);
  }
}
