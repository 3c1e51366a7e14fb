import { fileURLToPath } from 'node:url';
import { installPackages } from '../scripts/install-packages.ts';

/** The peers are hundreds of megabytes, so that only the benchmarks ever install them. */
export const installPeers = (): Promise<void> =>
  installPackages(
    fileURLToPath(new URL('.', import.meta.url)),
    'onnxruntime 1.30.0 (web and node) and the mail corpus',
  );
