import { attention } from '../../program/ops/attention.ts';
import { projectRows } from '../../program/ops/project-rows.ts';
import type { Share } from '../initialise/linformer.ts';
import { mechanism, scaleOf } from '../mechanism.ts';

/**
 * Every query sees r mixtures of all keys: softmax(Q (E K)ᵀ/√D) F V with stored E, F `[r, Nmax]`. Rows of E that
 * belong to positions which a sequence does not have are left out of its softmax, so that short texts are not
 * diluted by empty keys.
 */
export default mechanism({
  kind: 'linformer',
  summary: 'keys and values mixed down to a fixed number of rows by stored matrices',
  family: 'low rank',
  paper: {
    authors: 'Wang, Li, Khabsa, Fang, Ma',
    title: 'Linformer: Self-Attention with Linear Complexity',
    year: 2020,
    url: 'https://arxiv.org/abs/2006.04768',
  },
  options: {
    rank: {
      type: 'integer',
      least: 1,
      most: 65536,
      default: 64,
      what: 'rows that keys and values are mixed down to',
    },
    share: {
      type: 'choice',
      choices: ['layer', 'key-value', 'head'],
      default: 'key-value',
      what: 'one matrix a layer, one for keys and one for values, or both for each head',
    },
  },
  needs: { training: 'recommended', calibration: false, boundedLength: true },
  growth: { time: 'n·rank', memory: 'n' },
  exact: false,
  refuse: ({ maxLength }, { rank }) =>
    rank > maxLength
      ? `rank ${rank} is more than its longest text: expected at most ${maxLength}. Lower rank, or use dense, which is exact.`
      : null,
  lower(context, { rank, share }) {
    const { t, layer, lengths, project, parameter } = context;
    const { heads, headSize, maxLength } = layer;
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    const matrix = (name: string, sets: number) => parameter(name, [sets, rank, maxLength]);
    const options = { heads, headSize, scale: scaleOf(layer) };
    const queries = { value: qkv, from: 0 };
    if (share === 'layer') {
      const both = projectRows(t, { value: qkv, from: heads }, 2 * heads, matrix('projection', 1), lengths);
      const at = (from: number) => ({ value: both.rows, from }); // [2H, B, r, D′]
      return attention(t, { queries, keys: at(0), values: at(heads), lengths: both.counts }, options)[0];
    }
    const sets = share === 'head' ? heads : 1;
    const mixed = (name: string, from: number) =>
      projectRows(t, { value: qkv, from }, heads, matrix(name, sets), lengths); // [H, B, r, D′]
    const keys = mixed('keyProjection', heads);
    const values = mixed('valueProjection', 2 * heads);
    return attention(
      t,
      {
        queries,
        keys: { value: keys.rows, from: 0 },
        values: { value: values.rows, from: 0 },
        lengths: keys.counts,
      },
      options,
    )[0];
  },
  initialise: async (context, { rank, share }) =>
    (await import('../initialise/linformer.ts')).initialiseLinformer(context, {
      rank,
      share: share as Share,
    }),
  examples: [
    { rank: 1, share: 'layer' },
    { rank: 7, share: 'key-value' },
    { rank: 5, share: 'head' },
  ],
  bench: {
    linformer: { rank: 64 },
    'linformer-128': { rank: 128 },
  },
});
