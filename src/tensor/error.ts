/**
 * Every failure that a caller can act on. The message reads `[op] what was wrong: expected X, got Y. Do Z.`;
 * `code` is stable across versions and `fields` holds the data behind the sentence.
 */
export class AttenuateError extends Error {
  override readonly name = 'AttenuateError';
  readonly code: string;
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, fields: Record<string, unknown> = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.fields = fields;
  }
}
