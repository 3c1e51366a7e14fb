import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { applyRecipe, formatAttention, formatStep, probeModel } from '../../compress/index.ts';
import { writeArtifact } from '../../format/index.ts';
import type { Model } from '../../model/config.ts';
import { StatisticsCache, textContext } from '../../optimize/index.ts';
import { formatBytes } from '../../report/index.ts';
import { byteSize } from '../../tensor/codec.ts';
import { command, JSON_FLAG, usageError } from '../command.ts';
import { withModel } from '../local-model.ts';
import { attentionSteps, CALIBRATE_FLAG, calibrationLines, readRecipe } from '../recipes.ts';
import { factList } from '../table.ts';

/** `attenuate apply`: a model and a recipe go in; an artifact comes out, unmeasured. */
export const applyCommand = command({
  name: 'apply',
  description: 'Build an artifact from a recipe, without measuring it',
  args: {
    model: { type: 'positional', required: true, description: 'Model folder or artifact' },
    recipe: { type: 'string', valueHint: 'file', description: 'JSON list of steps' },
    attention: {
      type: 'string',
      valueHint: 'list',
      description: 'Attention steps before those of --recipe, such as "local(left=64,right=64)@except3"',
    },
    calibrate: CALIBRATE_FLAG,
    out: { type: 'string', required: true, valueHint: 'folder', description: 'Where model.safetensors goes' },
    ...JSON_FLAG,
  },
  examples: [
    'attenuate apply ./all-MiniLM-L6-v2 --attention "local(left=64,right=64)@except3" --out out',
    'attenuate apply ./all-MiniLM-L6-v2 --attention performer --calibrate texts.txt --out out --json',
    'attenuate apply ./all-MiniLM-L6-v2 --recipe recipe.json --calibrate texts.txt --out out',
  ],
  async execute(args, { signal, progress }) {
    if (args.recipe === undefined && args.attention === undefined)
      throw usageError('apply', 'nothing to apply: expected --recipe or --attention, got neither.');
    const recipe = [
      ...(args.attention === undefined ? [] : attentionSteps('apply', args.attention)),
      ...(args.recipe === undefined ? [] : await readRecipe('apply', args.recipe)),
    ];
    const texts = await calibrationLines('apply', args.calibrate);
    return withModel('apply', args.model, async (model) => {
      const context = textContext(texts ?? [], {
        cache: new StatisticsCache(join(args.out, '.attenuate-work')),
        signal,
        onProgress: (what, fraction) => progress.update(fraction, what),
      });
      const built = await applyRecipe(model, recipe, context);
      progress.update(1, 'probe');
      const probe = await probeModel(built, { signal });
      progress.update(1, 'write');
      await mkdir(args.out, { recursive: true });
      const file = join(args.out, 'model.safetensors');
      const { byteLength } = await writeArtifact(built, file, { signal, probe });
      progress.clear();
      const weightBytes = { before: weightsOf(model), after: weightsOf(built) };
      const steps = built.recipe.slice(model.recipe.length) as typeof recipe;
      return {
        json: { file, bytes: byteLength, weightBytes, recipe: steps },
        text: factList([
          ['artifact', `${file}, ${formatBytes(byteLength)}`],
          ['weights', `${formatBytes(weightBytes.before)} → ${formatBytes(weightBytes.after)}`],
          [
            'steps',
            steps
              .map((step) => (step.step === 'attention' ? formatStep(step) : JSON.stringify(step)))
              .join('; '),
          ],
          ['attention', built.config.layers.map(({ attention }) => formatAttention(attention)).join(' · ')],
        ]),
      };
    });
  },
});

const weightsOf = ({ weights }: Model): number =>
  [...weights.specs.values()].reduce((sum, spec) => sum + byteSize(spec), 0);
