import { attentionSteps } from './attention.ts';
import { distillEmbedding } from './distill/embedding.ts';
import { distillLayers } from './distill/layers.ts';
import { finetuneClassification } from './finetune.ts';
import { integerStep } from './integer/step.ts';
import { quantize } from './quantize/quantize.ts';
import { shareLayers } from './share/layers.ts';
import { shareTable } from './share/table.ts';
import type { StepDefinition } from './step.ts';

/** Every step that a recipe may name. A new technique is a file of its own and a line here; attention mechanisms bring their own. */
export const STEPS = [
  quantize,
  ...attentionSteps,
  distillEmbedding,
  distillLayers,
  finetuneClassification,
  shareLayers,
  shareTable,
  integerStep,
] as unknown as readonly StepDefinition[];
