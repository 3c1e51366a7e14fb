import type { Needs, Paper } from './mechanism.ts';

export const SYNTHESIZER_PAPER: Paper = {
  authors: 'Tay, Bahri, Metzler, Juan, Zhao, Zheng',
  title: 'Synthesizer: Rethinking Self-Attention for Transformer Models',
  year: 2021,
  url: 'https://arxiv.org/abs/2005.00743',
};

export const SYNTHESIZER_NEEDS: Needs = { training: 'required', calibration: true, boundedLength: true };
