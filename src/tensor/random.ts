/**
 * Seeded random numbers, the same on every engine: xoshiro128** (Blackman and Vigna 2018), its state filled by
 * a counter
 * mixed as in MurmurHash3. Not for secrets.
 */
export class Random {
  private readonly state = new Uint32Array(4);
  private spare: number | null = null;

  /** @param seed any number; its low 32 bits count */
  constructor(seed: number) {
    let s = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      s = (s + 0x9e3779b9) >>> 0;
      let z = Math.imul(s ^ (s >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      this.state[i] = z ^ (z >>> 16);
    }
  }

  /** A whole number from 0 to 2³² − 1. */
  uint32(): number {
    const s = this.state;
    const scrambled = Math.imul(s[1], 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  /** A number in [0, 1). */
  uniform(): number {
    return this.uint32() / 2 ** 32;
  }

  /** A whole number from 0 to `size` − 1. */
  integer(size: number): number {
    return Math.floor(this.uniform() * size);
  }

  /** A standard normal number (Box and Muller 1958). */
  gaussian(): number {
    if (this.spare !== null) {
      const value = this.spare;
      this.spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** `count` normal numbers of mean 0. */
  gaussians(count: number, deviation = 1): Float32Array {
    return Float32Array.from({ length: count }, () => this.gaussian() * deviation);
  }

  /** `count` whole numbers from 0 to `size` − 1. */
  integers(count: number, size: number): Int32Array {
    return Int32Array.from({ length: count }, () => this.integer(size));
  }

  /** 0 … `count` − 1 in a random order (Fisher and Yates). */
  permutation(count: number): Uint32Array {
    const out = Uint32Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  }
}
