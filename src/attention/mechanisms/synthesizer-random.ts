import { storedAttention } from '../../program/ops/stored-attention.ts';
import { mechanism } from '../mechanism.ts';
import { SYNTHESIZER_NEEDS, SYNTHESIZER_PAPER } from '../synthesizer.ts';

const CODECS = ['int8', 'float16', 'float32'] as const;
/** Most bytes of one layer's matrices. */
const MOST_BYTES = 128 << 20;

/** Weights of attention that are stored, one matrix a head: no queries, no keys, no scores, no softmax. */
export default mechanism({
  kind: 'synthesizer-random',
  summary: 'attention itself is stored, one matrix a head, the same for every text',
  family: 'stored',
  paper: SYNTHESIZER_PAPER,
  options: {
    codec: { type: 'choice', choices: CODECS, default: 'int8', what: 'how the matrices are stored' },
  },
  needs: SYNTHESIZER_NEEDS,
  growth: { time: 'n²', memory: 'n' },
  exact: false,
  refuse({ heads, maxLength }, { codec }) {
    // 16-bit floats are widened as they are loaded.
    const bytes = heads * maxLength ** 2 * (codec === 'int8' ? 1 : 4);
    return bytes > MOST_BYTES
      ? `the matrices for its ${maxLength} tokens take ${Math.ceil(bytes / 2 ** 20)} MiB: expected at most ${MOST_BYTES / 2 ** 20}. Use dense or local, or for shorter texts synthesizer-factorised.`
      : null;
  },
  lower(context) {
    const { t, layer, lengths, project, parameter } = context;
    const { heads, headSize, maxLength } = layer;
    const roots = parameter('storedRoots', [heads, maxLength, maxLength]);
    return storedAttention(t, roots, { value: project(['value']), from: 0 }, lengths, { heads, headSize });
  },
  initialise: async (context, { codec }) =>
    (await import('../initialise/synthesizer.ts')).initialiseRandom(
      context,
      codec as (typeof CODECS)[number],
    ),
  examples: [{ codec: 'float32' }, { codec: 'int8' }],
  bench: { 'synthesizer-random': {} },
});
