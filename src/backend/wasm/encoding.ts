/** Bytes as a tree, flattened once at the end: composing code never copies it. */
export type Code = number | readonly Code[];

/** Unsigned LEB128 (WebAssembly core specification, section 5.2.2). */
export function uleb(n: number): number[] {
  const out: number[] = [];
  let rest = n >>> 0;
  do {
    const low = rest & 0x7f;
    rest >>>= 7;
    out.push(rest ? low | 0x80 : low);
  } while (rest);
  return out;
}

/** Signed LEB128 of a 32-bit integer. */
export function sleb(n: number): number[] {
  const out: number[] = [];
  let rest = n | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    const done = (rest === 0 && !(low & 0x40)) || (rest === -1 && low & 0x40);
    out.push(done ? low : low | 0x80);
    if (done) return out;
  }
}

export const float32Bytes = (x: number): number[] => [...new Uint8Array(new Float32Array([x]).buffer)];

export function text(s: string): Code {
  const bytes = new TextEncoder().encode(s);
  return [uleb(bytes.length), [...bytes]];
}

function sizeOf(code: Code): number {
  if (typeof code === 'number') return 1;
  let size = 0;
  for (const part of code) size += sizeOf(part);
  return size;
}

export function flatten(code: Code): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(sizeOf(code));
  let at = 0;
  const write = (part: Code): void => {
    if (typeof part === 'number') out[at++] = part;
    else for (const inner of part) write(inner);
  };
  write(code);
  return out;
}

export const vector = (items: readonly Code[]): Code => [uleb(items.length), items];
export const sized = (body: Code): Code => {
  const bytes = flatten(body);
  return [uleb(bytes.length), [...bytes]];
};
export const section = (id: number, body: Code): Code => [id, sized(body)];
