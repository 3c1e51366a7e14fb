import { localAttention } from './attention/local.ts';
import { quantizeInt8 } from './quantize/int8.ts';
import type { StepDefinition } from './step.ts';

/** Every step that a recipe may name. A new technique is a file of its own and a line here. */
export const STEPS = [quantizeInt8, localAttention] as unknown as readonly StepDefinition[];
