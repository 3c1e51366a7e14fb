import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { bundleRuntime } from '../../scripts/bundle.ts';
import { madeEncoder } from '../../test/made-encoder.ts';
import { encodeArtifact } from '../format/index.ts';
import { loadModel } from './index.ts';
import { loadRemote, type Request } from './remote.ts';
import type { TextModel } from './types.ts';

const folder = mkdtempSync(join(tmpdir(), 'attenuate-worker-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The worker's file as it is bundled: parts that are downloaded later are built apart from it. */
async function bundled(): Promise<string> {
  for (const { name, bytes } of await bundleRuntime()) writeFileSync(join(folder, name), bytes);
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  return pathToFileURL(join(folder, 'worker.js')).href;
}

/** Both ends of the protocol in one thread: the worker's file runs here, and messages are cloned on their way. */
describe.each([
  ['sources', async () => './worker.ts'],
  ['bundle', bundled],
])('a model in a worker, from its %s', (_, file) => {
  const sent: Request[] = [];
  let model: TextModel;
  let own: TextModel;

  beforeAll(async () => {
    const page = { terminate() {}, onmessage: null as null | ((event: unknown) => void), onerror: null };
    vi.stubGlobal('location', { href: 'http://localhost/worker.js' });
    vi.stubGlobal('postMessage', (reply: unknown) => {
      const data = structuredClone(reply);
      setTimeout(() => page.onmessage?.({ data }));
    });
    await import(/* @vite-ignore */ await file());
    const scope = globalThis as unknown as { onmessage: (event: unknown) => void };
    const worker = Object.assign(page, {
      postMessage(request: Request) {
        const data = structuredClone(request);
        sent.push(data);
        setTimeout(() => scope.onmessage({ data }));
      },
    }) as unknown as Worker;
    const made = madeEncoder();
    model = await loadRemote(worker, await encodeArtifact(made), {});
    own = await loadModel(made);
  });
  afterAll(() => {
    own.dispose();
    vi.unstubAllGlobals();
  });

  it('streams as a model in this thread does, each stream with its own text', async () => {
    const [one, two, here] = await Promise.all([model.stream(), model.stream({ refresh: 1 }), own.stream()]);
    for (const text of ['a small model', 'a small fox', 'a small fox']) {
      const want = await here.push(text);
      expect(await one.push(text)).toEqual(want);
      expect((await two.push(text)).recomputed.multiplyAdds).toBe(1);
    }
    const ids = await model.tokenize('quick fox');
    expect(await one.push(ids)).toEqual(await here.push(ids));
    await one.reset();
    expect((await one.push(ids)).recomputed.multiplyAdds).toBe(1);
  });

  it('passes on aborts, refusals and the end of a stream', async () => {
    await expect(model.stream({ threshold: -1 })).rejects.toMatchObject({ code: 'STREAM_OPTION' });
    const stream = await model.stream();
    const controller = new AbortController();
    const running = stream.push('a small model', { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(running).rejects.toThrow(/enough/);
    expect(sent.at(-1)).toMatchObject({ kind: 'abort' });
    expect((await stream.push('a small model')).embedding).toEqual((await own.embed(['a small model']))[0]);
    stream.dispose();
    await expect(stream.push('a')).rejects.toMatchObject({ code: 'DISPOSED' });
  });

  it('sends nothing that cannot be cloned', () => {
    for (const request of sent) expect(JSON.stringify(request)).not.toContain('signal');
  });
});
