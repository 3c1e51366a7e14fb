import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The peers are hundreds of megabytes, so that only the benchmarks ever install them. */
export function installPeers(): Promise<void> {
  const folder = fileURLToPath(new URL('.', import.meta.url));
  process.stderr.write(
    `Installing onnxruntime 1.30.0 (web and node) and the mail corpus into ${folder}node_modules …\n`,
  );
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'];
  return new Promise((resolve, reject) => {
    const child = spawn('npm', ['install', ...flags], {
      cwd: folder,
      stdio: ['ignore', 2, 2],
      shell: process.platform === 'win32',
    });
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`[bench] npm install ended with ${code} in ${folder}`)),
    );
  });
}
