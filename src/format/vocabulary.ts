/** How a hash of UTF-16 units goes on with one more. */
const hashed = (hash: number, unit: number): number => (Math.imul(hash, 31) + unit) | 0;

/** Multiplied so that neighbouring hashes fall into places far apart (Knuth, section 6.4). */
const spread = (hash: number): number => Math.imul(hash, 0x9e3779b1);

/**
 * Ids of tokens, over the one string that holds them all: a table of numbers in place of a map with a string for each,
 * which would take ten times the room.
 */
export class Vocabulary {
  readonly size: number;
  private readonly text: string;
  private readonly starts: Int32Array;
  /** Id + 1 in an open-addressed table, 0 where nothing stands. */
  private readonly table: Int32Array;
  private readonly shift: number;

  /** @param text every token in the order of the ids, a space between two; of equal ones the first is found */
  constructor(text: string) {
    this.text = text;
    let size = 1;
    for (let i = text.indexOf(' '); i >= 0; i = text.indexOf(' ', i + 1)) size++;
    this.size = size;
    this.starts = new Int32Array(size + 1);
    for (let id = 0, at = 0; id < size; id++) {
      this.starts[id] = at;
      const end = text.indexOf(' ', at);
      at = (end < 0 ? text.length : end) + 1;
    }
    this.starts[size] = text.length + 1;
    const bits = Math.ceil(Math.log2(2 * size));
    this.shift = 32 - bits;
    this.table = new Int32Array(1 << bits);
    for (let id = 0; id < size; id++) {
      const [from, to] = [this.starts[id], this.starts[id + 1] - 1];
      let hash = 0;
      for (let i = from; i < to; i++) hash = hashed(hash, text.charCodeAt(i));
      if (this.lookUp(hash, '', text, from, to) < 0) this.place(hash, id);
    }
  }

  /** The token's text. */
  token(id: number): string {
    return id >= 0 && id < this.size ? this.text.slice(this.starts[id], this.starts[id + 1] - 1) : '';
  }

  /** The id of a whole token, or −1. */
  idOf(token: string): number {
    return this.lookUp(this.hashes('', token, 0)[token.length], '', token, 0, token.length);
  }

  /** Hashes of `prefix` and the first 0, 1, 2 … units of `word` from `from` on, at the place where those units end. */
  hashes(prefix: string, word: string, from: number, into = new Int32Array(word.length + 1)): Int32Array {
    let hash = 0;
    for (let i = 0; i < prefix.length; i++) hash = hashed(hash, prefix.charCodeAt(i));
    into[from] = hash;
    for (let i = from; i < word.length; i++) into[i + 1] = hash = hashed(hash, word.charCodeAt(i));
    return into;
  }

  /** The id of `prefix` and units `from` to `to` of `word`, whose hash is given, or −1. */
  lookUp(hash: number, prefix: string, word: string, from: number, to: number): number {
    const mask = this.table.length - 1;
    for (let slot = spread(hash) >>> this.shift; ; slot = (slot + 1) & mask) {
      const id = this.table[slot] - 1;
      if (id < 0 || this.is(id, prefix, word, from, to)) return id;
    }
  }

  private is(id: number, prefix: string, word: string, from: number, to: number): boolean {
    const at = this.starts[id];
    if (this.starts[id + 1] - 1 - at !== prefix.length + to - from) return false;
    if (!this.text.startsWith(prefix, at)) return false;
    const shift = at + prefix.length - from;
    for (let i = from; i < to; i++) if (this.text.charCodeAt(i + shift) !== word.charCodeAt(i)) return false;
    return true;
  }

  private place(hash: number, id: number): void {
    const mask = this.table.length - 1;
    let slot = spread(hash) >>> this.shift;
    while (this.table[slot]) slot = (slot + 1) & mask;
    this.table[slot] = id + 1;
  }
}
