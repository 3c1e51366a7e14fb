// Written by `npm run mechanisms` from the files in mechanisms/.
import type { Mechanism } from './mechanism.ts';
import bigbird from './mechanisms/bigbird.ts';
import blockSparse from './mechanisms/block-sparse.ts';
import causal from './mechanisms/causal.ts';
import dense from './mechanisms/dense.ts';
import fixed from './mechanisms/fixed.ts';
import local from './mechanisms/local.ts';
import longformer from './mechanisms/longformer.ts';
import masked from './mechanisms/masked.ts';
import strided from './mechanisms/strided.ts';

/** Every mechanism. A page never downloads this. */
export const MECHANISMS: readonly Mechanism[] = [
  bigbird,
  blockSparse,
  causal,
  dense,
  fixed,
  local,
  longformer,
  masked,
  strided,
];
