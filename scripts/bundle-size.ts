import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { type BundledFile, bundleRuntime } from './bundle.ts';

export const MOST_BROTLI_BYTES = 45 * 1024;

export interface BundleSize {
  readonly name: string;
  readonly onDemand: boolean;
  readonly raw: number;
  readonly gzip: number;
  readonly brotli: number;
}

/** A server compresses each file by itself, so the sum is of files compressed one by one. */
export function measure(files: readonly BundledFile[]): BundleSize[] {
  const rows = files.map(({ name, bytes, onDemand }) => ({
    name,
    onDemand,
    raw: bytes.length,
    gzip: gzipSync(bytes, { level: 9 }).length,
    brotli: brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length,
  }));
  const sum = (key: 'raw' | 'gzip' | 'brotli') =>
    rows.reduce((total, row) => total + (row.onDemand ? 0 : row[key]), 0);
  return [
    ...rows,
    {
      name: 'sum of what every page downloads',
      onDemand: false,
      raw: sum('raw'),
      gzip: sum('gzip'),
      brotli: sum('brotli'),
    },
  ];
}

if (process.argv[1] === import.meta.filename) {
  const rows = measure(await bundleRuntime());
  const { brotli } = rows.at(-1)!;
  const fits = brotli <= MOST_BROTLI_BYTES;
  if (process.argv.includes('--json'))
    console.log(JSON.stringify({ files: rows, mostBrotliBytes: MOST_BROTLI_BYTES, fits }));
  else {
    console.table(Object.fromEntries(rows.map(({ name, ...sizes }) => [name, sizes])));
    console.log(`${brotli} of at most ${MOST_BROTLI_BYTES} bytes, brotli: ${fits ? 'fits' : 'TOO LARGE'}`);
  }
  process.exitCode = fits ? 0 : 1;
}
