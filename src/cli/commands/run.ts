import type { TextInput, TextModel } from '../../runtime/types.ts';
import { type CommandContext, command, JSON_FLAG, usageError } from '../command.ts';
import { withLoaded, withModel } from '../local-model.ts';
import { printable } from '../table.ts';
import { asPairs, labelOf, readTexts } from '../texts.ts';
import { wholeNumber } from '../values.ts';

/** Texts that go to the model at once, between two looks at progress and Ctrl-C. */
const CHUNK = 64;

interface Request {
  readonly lines: readonly string[];
  /** Two texts given as arguments to `similarity`. */
  readonly separate: boolean;
  readonly pairs: boolean;
  readonly top: number;
}

interface Result {
  readonly json: Readonly<Record<string, unknown>>;
  readonly line: string;
}

type Task = (model: TextModel, request: Request, context: CommandContext) => Promise<Result[]>;

async function inChunks<I, O>(
  items: readonly I[],
  { signal, progress }: CommandContext,
  work: (chunk: readonly I[]) => Promise<O[]>,
): Promise<O[]> {
  const out: O[] = [];
  for (let from = 0; from < items.length; from += CHUNK) {
    signal.throwIfAborted();
    out.push(...(await work(items.slice(from, from + CHUNK))));
    if (items.length > CHUNK)
      progress.update(out.length / items.length, 'running', `${out.length} of ${items.length} texts`);
  }
  return out;
}

const inputsOf = ({ lines, pairs }: Request): readonly TextInput[] => (pairs ? asPairs('run', lines) : lines);

const embed: Task = (model, request, context) =>
  inChunks(inputsOf(request), context, async (texts) => {
    const rows = await model.embed(texts, { signal: context.signal });
    return rows.map((row, i) => ({
      json: { text: texts[i], embedding: Array.from(row) },
      line: Array.from(row, (value) => Number(value.toPrecision(7))).join(' '),
    }));
  });

const cosine = (a: Float32Array, b: Float32Array): number => {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  // A row of zeros is near to nothing.
  return aa === 0 || bb === 0 ? 0 : dot / Math.sqrt(aa * bb);
};

const similarity: Task = (model, { lines, separate }, context) => {
  if (separate && lines.length !== 2)
    throw usageError(
      'run',
      `similarity compares two texts: expected 2 arguments, got ${lines.length}. Use --file for more pairs.`,
    );
  const pairs = separate ? [[lines[0], lines[1]]] : asPairs('run', lines);
  return inChunks(pairs, context, async (chunk) => {
    const rows = await model.embed(chunk.flat(), { signal: context.signal });
    return chunk.map(([first, second], i) => {
      const score = cosine(rows[2 * i], rows[2 * i + 1]);
      return {
        json: { texts: [first, second], similarity: score },
        line: `${score.toFixed(6)}\t${printable(first)}\t${printable(second)}`,
      };
    });
  });
};

const classify: Task = (model, request, context) =>
  inChunks(inputsOf(request), context, async (texts) => {
    const found = await model.classify(texts, { signal: context.signal });
    return found.map(({ label, score, scores }, i) => ({
      json: { text: texts[i], label, score, scores },
      line: `${printable(label)}\t${score.toFixed(6)}\t${printable(labelOf(texts[i]))}`,
    }));
  });

const fillMask: Task = (model, { lines, top }, context) =>
  inChunks(lines, context, async (texts) => {
    const out: Result[] = [];
    for (const text of texts) {
      const masks = await model.fillMask(text, { top, signal: context.signal });
      const candidates = masks.map((mask) =>
        mask.map(({ token, score }) => `${printable(token)} ${score.toFixed(4)}`).join(', '),
      );
      out.push({ json: { text, masks }, line: `${printable(text)}\t${candidates.join(' | ')}` });
    }
    return out;
  });

const TASKS: Readonly<Record<string, Task>> = { embed, similarity, classify, 'fill-mask': fillMask };

/** `attenuate run`: what a model gives for texts. */
export const runCommand = command({
  name: 'run',
  description: 'Embed, compare or classify texts, or fill in masks',
  args: {
    model: { type: 'positional', required: true, description: 'Artifact or model folder' },
    task: { type: 'positional', required: true, description: Object.keys(TASKS).join(', ') },
    text: {
      type: 'positional',
      required: false,
      description:
        'Texts; none to read one a line from --file or standard input. After --, a text may begin with -',
    },
    file: { type: 'string', valueHint: 'path', description: 'Read one text a line from this file' },
    pairs: {
      type: 'boolean',
      description: 'embed, classify: each line is two texts with a tab between them, read as one input',
    },
    top: { type: 'string', valueHint: 'n', default: '5', description: 'fill-mask: candidates for each mask' },
    threads: { type: 'string', valueHint: 'n', default: '1', description: 'Threads' },
    ...JSON_FLAG,
  },
  rest: true,
  examples: [
    'attenuate run out/model.safetensors embed "The kitten rested on the rug."',
    'attenuate run out/model.safetensors similarity "a cat on a mat" "a kitten on a rug"',
    'attenuate run out/model.safetensors similarity --file pairs.tsv --json',
    'attenuate run ./classifier classify --file reviews.txt',
    'echo "Paris is the [MASK] of France." | attenuate run ./bert fill-mask --top 3',
  ],
  async execute(args, context) {
    const task = Object.hasOwn(TASKS, args.task) ? TASKS[args.task] : undefined;
    if (!task)
      throw usageError(
        'run',
        `unknown task: expected ${Object.keys(TASKS).join(', ')}, got ${JSON.stringify(args.task)}.`,
        { got: args.task },
      );
    const top = wholeNumber('run', '--top', args.top);
    const threads = wholeNumber('run', '--threads', args.threads);
    const texts = args._.slice(2);
    const lines = await readTexts('run', { texts, file: args.file }, context.io);
    const request = { lines, separate: texts.length > 0, pairs: args.pairs === true, top };
    return withModel('run', args.model, (model) =>
      withLoaded(model, { threads, signal: context.signal }, async (loaded) => {
        const results = await task(loaded, request, context);
        return {
          json: {
            model: args.model,
            task: args.task,
            info: loaded.info,
            results: results.map(({ json }) => json),
          },
          text: results.map(({ line }) => line).join('\n'),
        };
      }),
    );
  },
});
