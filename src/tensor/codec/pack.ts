import { codeFormat, rowBytesOf } from './layout.ts';
import { columnsOf, elements, rowsOf, type WeightSpec } from './spec.ts';

/** Integer codes, row-major and in range, as the `values` section of an integer weight. */
export function pack(spec: WeightSpec, codes: ArrayLike<number>): Uint8Array {
  const { bits, low, step } = codeFormat(spec);
  if (bits === 8) return new Uint8Array(Int8Array.from(codes).buffer);
  const [rows, columns, rowBytes] = [rowsOf(spec.shape), columnsOf(spec.shape), rowBytesOf(spec)];
  const out = new Uint8Array(rows * rowBytes);
  const perByte = 8 / bits;
  for (let row = 0, i = 0; row < rows; row++)
    for (let c = 0; c < columns; c++, i++)
      out[row * rowBytes + Math.floor(c / perByte)] |= ((codes[i] - low) / step) << ((c % perByte) * bits);
  return out;
}

/** The codes that a `values` section holds, row-major. */
export function unpack(spec: WeightSpec, values: Uint8Array): Int8Array {
  const { bits, low, step } = codeFormat(spec);
  const out = new Int8Array(elements(spec.shape));
  if (bits === 8) {
    out.set(new Int8Array(values.buffer, values.byteOffset, out.length));
    return out;
  }
  const [rows, columns, rowBytes] = [rowsOf(spec.shape), columnsOf(spec.shape), rowBytesOf(spec)];
  const [perByte, mask] = [8 / bits, 2 ** bits - 1];
  for (let row = 0, i = 0; row < rows; row++)
    for (let c = 0; c < columns; c++, i++)
      out[i] =
        ((values[row * rowBytes + Math.floor(c / perByte)] >> ((c % perByte) * bits)) & mask) * step + low;
  return out;
}
