/**
 * Element types of the values that a Program computes. `quantized` is one 8-bit activation code, stored in one
 * or two bytes: which of the two is the backend's choice (see `ActivationFormat`). `int8` is the same everywhere,
 * `bits` one byte of eight signs.
 */
export type DType = 'float32' | 'int32' | 'int8' | 'quantized' | 'bits';

/** How a backend stores dynamically quantised activations: `levels` codes (128 or 256) of `bytes` bytes each. */
export interface ActivationFormat {
  readonly levels: 128 | 256;
  readonly bytes: 1 | 2;
}

export function byteWidth(dtype: DType, activation: ActivationFormat): number {
  return dtype === 'quantized' ? activation.bytes : dtype === 'int8' || dtype === 'bits' ? 1 : 4;
}
