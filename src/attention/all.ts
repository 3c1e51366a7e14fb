// Written by `npm run mechanisms` from the files in mechanisms/.
import type { Mechanism } from './mechanism.ts';
import dense from './mechanisms/dense.ts';
import local from './mechanisms/local.ts';

/** Every mechanism. A page never downloads this. */
export const MECHANISMS: readonly Mechanism[] = [dense, local];
