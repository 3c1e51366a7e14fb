const CONSTANTS = /* @__PURE__ */ primes(64).map((p) => fractionBits(Math.cbrt(p)));
const INITIAL = /* @__PURE__ */ primes(8).map((p) => fractionBits(Math.sqrt(p)));

function primes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n++) if (found.every((p) => n % p !== 0)) found.push(n);
  return found;
}

function fractionBits(x: number): number {
  return ((x % 1) * 2 ** 32) | 0;
}

/** SHA-256 in plain TypeScript (FIPS 180-4), for pages without `crypto.subtle` (http). */
export function sha256Plain(data: Uint8Array): Uint8Array {
  const padded = new Uint8Array((((data.length + 8) >> 6) + 1) << 6);
  padded.set(data);
  padded[data.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, BigInt(data.length) * 8n);
  const state = Int32Array.from(INITIAL);
  const w = new Int32Array(64);
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(at + i * 4);
    for (let i = 16; i < 64; i++) {
      const [x, y] = [w[i - 15], w[i - 2]];
      const s0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
      const s1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + CONSTANTS[i] + w[i]) | 0;
      const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((x, i) => {
      state[i] += x;
    });
  }
  const out = new Uint8Array(32);
  const result = new DataView(out.buffer);
  state.forEach((x, i) => {
    result.setInt32(i * 4, x);
  });
  return out;
}

const rotate = (x: number, by: number): number => (x >>> by) | (x << (32 - by));

/** SHA-256 by the platform where it has one, else by `sha256Plain`. */
export async function sha256(data: Uint8Array): Promise<Uint8Array> {
  const { subtle } = globalThis.crypto ?? {};
  return subtle ? new Uint8Array(await subtle.digest('SHA-256', data as BufferSource)) : sha256Plain(data);
}

const BLOCK = 1 << 20;

/**
 * The hash of an artifact's data part: SHA-256 over the SHA-256 digests, end to end, of its consecutive 1 MiB blocks
 * (the last one shorter). Unlike a plain SHA-256 it can be computed as the bytes stream by with a function that only
 * takes whole buffers.
 */
export class BlockHash {
  private readonly most: number;
  private readonly digests: Uint8Array[] = [];
  private open: Piecewise | null = null;
  private filled = 0;

  /** @param most bytes that will come, where it is known: less memory is taken for fewer than a block */
  constructor(most = BLOCK) {
    this.most = Math.min(BLOCK, most);
  }

  async update(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + BLOCK - this.filled);
      this.open ??= nodeHash() ?? new Gathered(this.most);
      this.open.update(part);
      this.filled += part.length;
      at += part.length;
      if (this.filled === BLOCK) await this.flush();
    }
  }

  /** Hexadecimal, 64 digits. */
  async digest(): Promise<string> {
    if (this.filled > 0) await this.flush();
    const all = new Uint8Array(this.digests.length * 32);
    this.digests.forEach((digest, i) => {
      all.set(digest, i * 32);
    });
    return [...(await sha256(all))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  private async flush(): Promise<void> {
    this.digests.push(await this.open!.digest());
    if (!(this.open instanceof Gathered)) this.open = null;
    this.filled = 0;
  }
}

/** A hash that takes its bytes piece by piece. */
interface Piecewise {
  update(bytes: Uint8Array): unknown;
  digest(): Uint8Array | Promise<Uint8Array>;
}

/** Node's own, which needs no buffer and leaves no copies behind; null in a browser. */
const nodeHash = (): Piecewise | null =>
  globalThis.process?.getBuiltinModule?.('crypto')?.createHash('sha256') ?? null;

/** What a platform hashes in one piece alone. */
class Gathered implements Piecewise {
  private readonly block: Uint8Array;
  private filled = 0;

  constructor(bytes: number) {
    this.block = new Uint8Array(bytes);
  }

  update(bytes: Uint8Array): void {
    this.block.set(bytes, this.filled);
    this.filled += bytes.length;
  }

  digest(): Promise<Uint8Array> {
    const whole = this.block.subarray(0, this.filled);
    this.filled = 0;
    return sha256(whole);
  }
}
