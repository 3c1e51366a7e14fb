// Written by `npm run mechanisms` from the files in mechanisms/.
import type { Mechanism } from './mechanism.ts';

/** Each mechanism by kind, downloaded when a model asks for it. */
export const ON_DEMAND: Readonly<Record<string, () => Promise<{ default: Mechanism }>>> = {
  bigbird: () => import('./mechanisms/bigbird.ts'),
  'block-sparse': () => import('./mechanisms/block-sparse.ts'),
  causal: () => import('./mechanisms/causal.ts'),
  cosformer: () => import('./mechanisms/cosformer.ts'),
  dense: () => import('./mechanisms/dense.ts'),
  dynamic: () => import('./mechanisms/dynamic.ts'),
  entmax: () => import('./mechanisms/entmax.ts'),
  'fast-weights': () => import('./mechanisms/fast-weights.ts'),
  fixed: () => import('./mechanisms/fixed.ts'),
  grouped: () => import('./mechanisms/grouped.ts'),
  hedgehog: () => import('./mechanisms/hedgehog.ts'),
  'k-winners': () => import('./mechanisms/k-winners.ts'),
  linformer: () => import('./mechanisms/linformer.ts'),
  local: () => import('./mechanisms/local.ts'),
  longformer: () => import('./mechanisms/longformer.ts'),
  masked: () => import('./mechanisms/masked.ts'),
  performer: () => import('./mechanisms/performer.ts'),
  'relu-linear': () => import('./mechanisms/relu-linear.ts'),
  sparsemax: () => import('./mechanisms/sparsemax.ts'),
  spiking: () => import('./mechanisms/spiking.ts'),
  strided: () => import('./mechanisms/strided.ts'),
  'synthesizer-dense': () => import('./mechanisms/synthesizer-dense.ts'),
  'synthesizer-factorised': () => import('./mechanisms/synthesizer-factorised.ts'),
  'synthesizer-random': () => import('./mechanisms/synthesizer-random.ts'),
};
