import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { BlockHash, sha256, sha256Plain } from './sha256.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const truth = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('sha256', () => {
  it('equals the platform for every length round a block', () => {
    for (let n = 0; n <= 200; n++) {
      const bytes = Uint8Array.from({ length: n }, (_, i) => i * 89 + n);
      expect(hex(sha256Plain(bytes))).toBe(truth(bytes));
    }
  });

  it('equals the platform for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), (bytes) => hex(sha256Plain(bytes)) === truth(bytes)),
    );
  });

  it('falls back where a page has no crypto.subtle', async () => {
    const bytes = Uint8Array.of(1, 2, 3);
    expect(hex(await sha256(bytes))).toBe(truth(bytes));
    vi.stubGlobal('crypto', {});
    expect(hex(await sha256(bytes))).toBe(truth(bytes));
    vi.unstubAllGlobals();
  });
});

describe('block hash', () => {
  it.each(['node', 'subtle'])(
    'is the hash of the digests of 1 MiB blocks, however the bytes come: %s',
    async (by) => {
      if (by === 'subtle') vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined);
      const bytes = Uint8Array.from({ length: 2 ** 21 + 12_345 }, (_, i) => i % 251);
      const digests = [0, 1, 2].map((i) =>
        createHash('sha256')
          .update(bytes.subarray(i << 20, (i + 1) << 20))
          .digest(),
      );
      for (const chunk of [1 << 20, 777_777, bytes.length]) {
        const hash = new BlockHash();
        for (let at = 0; at < bytes.length; at += chunk) await hash.update(bytes.subarray(at, at + chunk));
        expect(await hash.digest()).toBe(truth(Buffer.concat(digests)));
      }
      expect(await new BlockHash().digest()).toBe(truth(new Uint8Array()));
      vi.restoreAllMocks();
    },
  );
});
