// Written by `npm run mechanisms` from the files in mechanisms/.
import type { Mechanism } from './mechanism.ts';
import bigbird from './mechanisms/bigbird.ts';
import blockSparse from './mechanisms/block-sparse.ts';
import causal from './mechanisms/causal.ts';
import cosformer from './mechanisms/cosformer.ts';
import dense from './mechanisms/dense.ts';
import dynamic from './mechanisms/dynamic.ts';
import entmax from './mechanisms/entmax.ts';
import fastWeights from './mechanisms/fast-weights.ts';
import fixed from './mechanisms/fixed.ts';
import grouped from './mechanisms/grouped.ts';
import hedgehog from './mechanisms/hedgehog.ts';
import kWinners from './mechanisms/k-winners.ts';
import linformer from './mechanisms/linformer.ts';
import local from './mechanisms/local.ts';
import longformer from './mechanisms/longformer.ts';
import masked from './mechanisms/masked.ts';
import performer from './mechanisms/performer.ts';
import reluLinear from './mechanisms/relu-linear.ts';
import sparsemax from './mechanisms/sparsemax.ts';
import spiking from './mechanisms/spiking.ts';
import strided from './mechanisms/strided.ts';
import synthesizerDense from './mechanisms/synthesizer-dense.ts';
import synthesizerFactorised from './mechanisms/synthesizer-factorised.ts';
import synthesizerRandom from './mechanisms/synthesizer-random.ts';

/** Every mechanism. A page never downloads this. */
export const MECHANISMS: readonly Mechanism[] = [
  bigbird,
  blockSparse,
  causal,
  cosformer,
  dense,
  dynamic,
  entmax,
  fastWeights,
  fixed,
  grouped,
  hedgehog,
  kWinners,
  linformer,
  local,
  longformer,
  masked,
  performer,
  reluLinear,
  sparsemax,
  spiking,
  strided,
  synthesizerDense,
  synthesizerFactorised,
  synthesizerRandom,
];
