import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { applyRecipe } from '../src/compress/index.ts';
import { roundedStore } from '../src/compress/quantize/rounded-store.ts';
import type { Width } from '../src/compress/quantize/width.ts';
import { openModel, writeArtifact } from '../src/format/index.ts';
import type { Model } from '../src/model/config.ts';
import { isMatrix } from '../src/model/names.ts';
import { loadModel } from '../src/runtime/index.ts';
import type { LoadOptions, TextModel } from '../src/runtime/types.ts';

/** The `full` ones have every product in integers, attention's too, and embeddings in the same width. */
export type Variant = 'float32' | 'int8' | 'local-int8' | 'int8-full' | 'int4-full';

const QUANTIZE = { step: 'quantize', bits: 8 } as const;
const LOCAL = { step: 'attention', kind: 'local', left: 128, right: 128, layers: 'all' } as const;
const INTEGER_ATTENTION = { step: 'attention', kind: 'dense', precision: 'int8', layers: 'all' } as const;
export const INT4: Width = { codec: 'int4', groupSize: 32 };
export const WINDOW = { left: LOCAL.left, right: LOCAL.right };

const TEXT = `The harbour was quiet before dawn. A single boat came in with the tide, its lamp swinging, and two
people on the quay waited for the rope. They had mended nets all winter and talked about prices, weather, and
the school that would close if three more families left. Nobody wrote any of it down, but everyone remembered
the year when the ice held until April and the ferry could not land for eleven days.`;

/** What the benchmark runs: one model folder, its variants and their files, made when first asked for. */
export class Subjects {
  readonly folder: string;
  readonly #models = new Map<Variant, Promise<Model>>();
  readonly #files = new Map<string, Promise<string>>();
  #scratch: string | undefined;
  #text: Promise<number[]> | undefined;

  constructor(folder: string) {
    this.folder = folder;
  }

  model(variant: Variant): Promise<Model> {
    const known = this.#models.get(variant) ?? this.#make(variant);
    this.#models.set(variant, known);
    return known;
  }

  async #make(variant: Variant): Promise<Model> {
    if (variant === 'float32') return openModel(this.folder);
    const model = await this.model('float32');
    if (variant === 'int4-full') {
      const widths = new Map(
        [...model.weights.specs.keys()].filter(isMatrix).map((name) => [name, INT4] as const),
      );
      const weights = roundedStore(model.weights, widths);
      return applyRecipe({ ...model, weights }, [INTEGER_ATTENTION]);
    }
    const before = { int8: [], 'local-int8': [LOCAL], 'int8-full': [INTEGER_ATTENTION] }[variant];
    return applyRecipe(model, [...before, QUANTIZE]);
  }

  async load(variant: Variant, options: LoadOptions = {}): Promise<TextModel> {
    return loadModel(await this.model(variant), { threads: 1, ...options });
  }

  /** A file of the benchmark's own folder, written when first asked for. */
  file(name: string, write: (path: string) => Promise<unknown>): Promise<string> {
    const path = join(this.scratch, name);
    const known = this.#files.get(name) ?? write(path).then(() => path);
    this.#files.set(name, known);
    return known;
  }

  artifact(variant: Variant): Promise<string> {
    return this.file(`${variant}.safetensors`, async (path) =>
      writeArtifact(await this.model(variant), path),
    );
  }

  get scratch(): string {
    if (!this.#scratch) {
      const folder = mkdtempSync(join(tmpdir(), 'attenuate-bench-'));
      this.#scratch = folder;
      process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
    }
    return this.#scratch;
  }

  async #tokenize(): Promise<number[]> {
    const model = await this.load('float32');
    const ids = await model.tokenize(TEXT);
    model.dispose();
    return ids;
  }

  /** Token ids of a text that is exactly `length` tokens long, special tokens included. */
  async ids(length: number): Promise<number[]> {
    this.#text ??= this.#tokenize();
    const [first, ...words] = await this.#text;
    const last = words.pop()!;
    return [first, ...Array.from({ length: length - 2 }, (_, i) => words[i % words.length]), last];
  }
}
