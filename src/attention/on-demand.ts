// Written by `npm run mechanisms` from the files in mechanisms/.
import type { Mechanism } from './mechanism.ts';

/** Each mechanism by kind, downloaded when a model asks for it. */
export const ON_DEMAND: Readonly<Record<string, () => Promise<{ default: Mechanism }>>> = {
  dense: () => import('./mechanisms/dense.ts'),
  local: () => import('./mechanisms/local.ts'),
};
