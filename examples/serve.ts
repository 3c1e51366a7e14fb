import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { bundlePageScript, bundleRuntime } from '../scripts/bundle.ts';
import { serve } from '../test/browser/server.ts';

const [example, artifact] = process.argv.slice(2);
const folder = join(import.meta.dirname, example);
const files = new Map<string, string | Uint8Array>([
  ['/', readFileSync(join(folder, 'index.html'), 'utf8')],
  ['/model.safetensors', readFileSync(artifact)],
]);
const scripts = readdirSync(folder).filter((name) => name.endsWith('.ts'));
for (const { name, bytes } of [
  ...(example === 'browser' ? await bundleRuntime() : []),
  ...(
    await Promise.all(scripts.map((name) => bundlePageScript(join(folder, name), basename(name, '.ts'))))
  ).flat(),
])
  files.set(`/${name}`, bytes);

const { origin } = await serve(files, true);
console.log(`open ${origin}/ (Ctrl-C stops)`);
