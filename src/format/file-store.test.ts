import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { memoryFiles, readText } from './file-store.ts';
import { folderFiles } from './node/folder-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'attenuate-files-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe.each([
  ['in memory', memoryFiles()],
  ['in a folder', folderFiles(folder)],
])('files %s', (_, files) => {
  it('are written whole, replaced, and added to', async () => {
    expect(await files.open('a.txt')).toBeNull();
    expect(await readText(files, 'a.txt')).toBeNull();
    await files.write('a.txt', ['what was ', new TextEncoder().encode('there')]);
    expect(await readText(files, 'a.txt')).toBe('what was there');
    await files.write('a.txt', ['é']);
    await files.append('a.txt', ' and more');
    await files.append('new.txt', 'begun');
    expect(await readText(files, 'a.txt')).toBe('é and more');
    expect(await readText(files, 'new.txt')).toBe('begun');
    expect((await files.names()).sort()).toEqual(['a.txt', 'new.txt']);
  });

  it('are read in ranges', async () => {
    await files.write('b', [Uint8Array.of(1, 2, 3, 4)]);
    const source = (await files.open('b'))!;
    expect(source.size).toBe(4);
    expect([...(await source.read(1, 2))]).toEqual([2, 3]);
    await expect(source.read(3, 2)).rejects.toMatchObject({ code: 'SOURCE_TRUNCATED' });
    await source.close();
  });
});
