/** Text that a model which is shipped may be trained on. */
export interface Source {
  readonly name: string;
  readonly licence: string;
  readonly origin: string;
  texts(): AsyncIterable<string> | Iterable<string>;
}
