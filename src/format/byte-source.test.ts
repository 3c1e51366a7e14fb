import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type ByteSource, bytesSource, responseSource, urlSource } from './byte-source.ts';
import { fileSource } from './node/file-source.ts';

const folder = mkdtempSync(join(tmpdir(), 'attenuate-source-'));
afterAll(() => rmSync(folder, { recursive: true }));

const bytes = Uint8Array.from({ length: 2_500_000 }, (_, i) => (i * 31) >> 3);
const path = join(folder, 'bytes');
writeFileSync(path, bytes);

const response = (chunk: number, headers?: HeadersInit) =>
  new Response(
    new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += chunk) controller.enqueue(bytes.slice(at, at + chunk));
        controller.close();
      },
    }),
    { headers },
  );

const sources: Record<string, () => ByteSource | Promise<ByteSource>> = {
  bytes: () => bytesSource(bytes),
  file: () => fileSource(path),
  response: () => responseSource(response(70_001)),
  url: () => urlSource(`data:application/octet-stream;base64,${Buffer.from(bytes).toString('base64')}`),
};

describe.each(Object.keys(sources))('%s source', (name) => {
  it('serves the start and then every byte once', async () => {
    const source = await sources[name]();
    expect(await source.read(0, 8)).toEqual(bytes.slice(0, 8));
    expect(await source.read(8, 100_000)).toEqual(bytes.slice(8, 100_008));
    const chunks: Uint8Array[] = [];
    for await (const chunk of source.stream()) chunks.push(chunk.slice());
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
    await source.close();
  });

  it('says when the file ends too early', async () => {
    const source = await sources[name]();
    await expect(source.read(bytes.length - 4, 8)).rejects.toMatchObject({ code: 'SOURCE_TRUNCATED' });
    await source.close();
  });

  it('stops at an abort', async () => {
    const source = await sources[name]();
    await source.read(0, 8);
    const controller = new AbortController();
    const reason = new Error('enough');
    await expect(async () => {
      for await (const chunk of source.stream(controller.signal)) {
        expect(chunk.length).toBeGreaterThan(0);
        controller.abort(reason);
      }
    }).rejects.toBe(reason);
    await source.close();
  });
});

describe('a download', () => {
  it('is one pass', async () => {
    const source = responseSource(response(1000));
    for await (const chunk of source.stream()) expect(chunk.length).toBeGreaterThan(0);
    await expect(source.read(0, 8)).rejects.toMatchObject({ code: 'SOURCE_SEQUENTIAL' });
    await expect(source.stream()[Symbol.asyncIterator]().next()).rejects.toMatchObject({
      code: 'SOURCE_SEQUENTIAL',
    });
  });

  it('knows its size only from a plain content-length', async () => {
    const sizeOf = async (headers: HeadersInit) => {
      const source = responseSource(response(1000, headers));
      await source.read(0, 1);
      return source.size;
    };
    expect(await sizeOf({ 'content-length': '2500000' })).toBe(2_500_000);
    expect(await sizeOf({ 'content-length': '999', 'content-encoding': 'gzip' })).toBeNull();
    expect(await sizeOf({})).toBeNull();
  });

  it('names an address without an answer', async () => {
    await expect(urlSource('http://127.0.0.1:1/model').read(0, 8)).rejects.toMatchObject({
      code: 'SOURCE_FETCH',
    });
  });
});

describe('a file', () => {
  it('must be there and be a file', async () => {
    await expect(fileSource(join(folder, 'none'))).rejects.toMatchObject({ code: 'FILE_OPEN' });
    await expect(fileSource(folder)).rejects.toMatchObject({ code: 'FILE_OPEN' });
  });

  it('comes through one buffer of at most 1 MiB', async () => {
    const source = await fileSource(path);
    const buffers = new Set<ArrayBufferLike>();
    for await (const chunk of source.stream()) {
      expect(chunk.length).toBeLessThanOrEqual(2 ** 20);
      buffers.add(chunk.buffer);
    }
    expect(buffers.size).toBe(1);
    await source.close();
  });
});
