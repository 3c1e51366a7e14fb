import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { measureArtifact } from './evaluate.ts';
import type { MeasureJob } from './measurement.ts';

const job: MeasureJob = {
  artifact: 'none.safetensors',
  texts: ['a'],
  testTexts: 1,
  timed: [0],
  warmup: 0,
  output: 'embedding',
  vectors: null,
};

describe('measureArtifact', () => {
  let folder: string;
  const child = async (name: string, source: string) => {
    const path = join(folder, `${name}.mjs`);
    await writeFile(path, source);
    return pathToFileURL(path);
  };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'attenuate-child-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('sends the job when the child is ready and passes on progress and the result', async () => {
    const url = await child(
      'good',
      `process.once('message', (job) => {
        process.send({ kind: 'progress', progress: { stage: 'run', done: 1, total: 2 } });
        process.send({ kind: 'done', measurement: { lengths: [job.texts.length] } });
      });
      process.send({ kind: 'ready' });`,
    );
    const seen: unknown[] = [];
    const result = await measureArtifact(job, { child: url, onProgress: (p) => seen.push(p) });
    expect(result).toEqual({ lengths: [1] });
    expect(seen).toEqual([{ stage: 'run', done: 1, total: 2 }]);
  });

  it('reports a crash with what the process said', async () => {
    const url = await child('bad', `throw new RangeError('no room');`);
    await expect(measureArtifact(job, { child: url })).rejects.toMatchObject({
      code: 'CANDIDATE_CRASHED',
      message: expect.stringContaining('RangeError: no room'),
    });
  });

  it('hands over an error of the child', async () => {
    const url = await child('error', `process.send({ kind: 'error', code: 'X', message: 'y' });`);
    await expect(measureArtifact(job, { child: url })).rejects.toMatchObject({ code: 'X', message: 'y' });
  });

  it('ends the child on abort', async () => {
    const url = await child('slow', `process.send({ kind: 'ready' }); setInterval(() => {}, 1000);`);
    const controller = new AbortController();
    const running = measureArtifact(job, { child: url, signal: controller.signal });
    setTimeout(() => controller.abort(new Error('enough')), 100);
    await expect(running).rejects.toThrow('enough');
  });
});
