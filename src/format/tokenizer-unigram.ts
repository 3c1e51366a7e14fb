import type { TokenizerSpec } from '../model/config.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { Tokenizer } from './tokenizer.ts';

const BOUNDARY = '▁';
const UNKNOWN = 0;

interface TrieNode {
  readonly next: Map<string, TrieNode>;
  id: number;
}

export interface UnigramModel {
  encode(text: string): number[];
  readonly pieces: readonly string[];
}

/**
 * A SentencePiece unigram segmenter (Kudo 2018) as Universal Sentence Encoder uses it: NFKC, a `▁` in front of the
 * text and for each space, then the segmentation with the highest sum of piece scores (Viterbi). The first
 * `reserved` pieces are symbols that text never produces; piece 0 stands for what no piece covers, once per run.
 * The published figures were measured with the TensorFlow.js tokenizer, so that its choices are kept: a place where no
 * piece ends is reached at score 0, a score of exactly 0 gives way to any other, and of equal scores the piece that
 * starts later wins.
 * Empty text gives the piece `▁` alone (piece 0 where there is none), so that every text can be run.
 * @throws `TOKENIZER_INVALID`
 */
export function createUnigram(
  vocabulary: readonly (readonly [piece: string, score: number])[],
  reserved: number,
): UnigramModel {
  const invalid = (expected: string, got: unknown) =>
    new AttenuateError(
      'TOKENIZER_INVALID',
      `[tokenizer] bad vocabulary: expected ${expected}, got ${got}. Use the vocabulary that came with the model.`,
      { expected, got },
    );
  if (!Array.isArray(vocabulary) || vocabulary.length === 0) throw invalid('pieces', 'none');
  if (!Number.isInteger(reserved) || reserved < 1 || reserved > vocabulary.length)
    throw invalid(`1 to ${vocabulary.length} reserved symbols`, reserved);
  const root: TrieNode = { next: new Map(), id: -1 };
  vocabulary.forEach((entry, id) => {
    if (!Array.isArray(entry) || typeof entry[0] !== 'string' || !Number.isFinite(entry[1]))
      throw invalid('[piece, score] pairs', `another value at ${id}`);
    if (id < reserved || entry[0] === '') return;
    let node = root;
    for (const symbol of entry[0]) {
      let next = node.next.get(symbol);
      if (!next) node.next.set(symbol, (next = { next: new Map(), id: -1 }));
      node = next;
    }
    node.id = id;
  });
  const boundary = Math.max(root.next.get(BOUNDARY)?.id ?? UNKNOWN, UNKNOWN);

  return {
    pieces: vocabulary.map(([piece]) => piece),
    encode(text) {
      const normal = text.normalize('NFKC');
      if (normal === '') return [boundary];
      const symbols = [...(BOUNDARY + normal.replaceAll(' ', BOUNDARY))];
      const n = symbols.length;
      const best = new Float64Array(n + 1);
      const id = new Int32Array(n + 1);
      const from = Int32Array.from(id, (_, end) => end - 1);
      for (let start = 0; start < n; start++) {
        let node: TrieNode | undefined = root;
        for (let end = start + 1; end <= n && (node = node.next.get(symbols[end - 1])); end++) {
          if (node.id < 0) continue;
          const score = best[start] + vocabulary[node.id][1];
          if (best[end] !== 0 && score < best[end]) continue;
          best[end] = score;
          id[end] = node.id;
          from[end] = start;
        }
      }
      const ids: number[] = [];
      for (let end = n; end > 0; end = from[end])
        if (id[end] !== UNKNOWN || ids.at(-1) !== UNKNOWN) ids.push(id[end]);
      return ids.reverse();
    },
  };
}

/** As `createTokenizer`, of a unigram vocabulary. */
export function unigramTokenizer(
  spec: Extract<TokenizerSpec, { kind: 'unigram' }>,
  maxLength: number,
): Tokenizer {
  const model = createUnigram(spec.vocabulary, spec.reserved);
  return {
    encode(first, second) {
      if (second !== undefined)
        throw new AttenuateError(
          'TOKENIZER_PAIR',
          '[tokenizer] pair of texts: expected one text, got two. Encode each text by itself.',
          {},
        );
      const ids = model.encode(first).slice(0, maxLength);
      return { ids, types: ids.map(() => 0) };
    },
    token: (id) => model.pieces[id] ?? '',
    maskId: null,
    vocabularySize: model.pieces.length,
  };
}
