import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundlePageScript, bundleRuntime } from '../../scripts/bundle.ts';
import { serve } from '../../test/browser/server.ts';

const [artifact] = process.argv.slice(2);
const here = import.meta.dirname;
const files = new Map<string, string | Uint8Array>([
  ['/', readFileSync(join(here, 'index.html'), 'utf8')],
  ['/model.safetensors', readFileSync(artifact)],
]);
for (const { name, bytes } of [
  ...(await bundleRuntime()),
  ...(await bundlePageScript(join(here, 'page.ts'), 'page')),
])
  files.set(`/${name}`, bytes);

const { origin } = await serve(files, true);
console.log(`open ${origin}/ (Ctrl-C stops)`);
