import { applyRecipe } from '../../src/compress/index.ts';
import { bytesSource, encodeArtifact, openArtifact } from '../../src/format/browser.ts';
import { browserPlace } from '../../src/train/browser.ts';

/** A student of one layer that learns its teacher's embeddings, in 8 bits in the end. */
const RECIPE = [
  {
    step: 'distill',
    kind: 'embedding',
    student: { layers: 1 },
    steps: 600,
    batch: 16,
    heldOut: 0.1,
    evaluations: 3,
    learningRate: 1e-3,
  },
  { step: 'quantize', bits: 8 },
];

const stop = new AbortController();

/** What the page says: the text to train on, or that it is enough for now. */
self.onmessage = async ({ data }: MessageEvent<{ texts: string[] } | 'stop'>) => {
  if (data === 'stop') return stop.abort(new Error('stopped'));
  try {
    const teacher = await openArtifact(bytesSource(await (await fetch('/model.safetensors')).arrayBuffer()));
    const made = await applyRecipe(teacher, RECIPE, {
      signal: stop.signal,
      training: {
        texts: async () => data.texts,
        place: await browserPlace('train-in-page'),
        threads: 1,
        onProgress: ({ step, steps }) => self.postMessage({ state: `step ${step} of ${steps}` }),
      },
    });
    self.postMessage({ state: 'trained', artifact: await encodeArtifact(made) });
  } catch (error) {
    self.postMessage({ state: (error as Error).message });
  }
};
