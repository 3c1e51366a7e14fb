import { spawn } from 'node:child_process';

/** Installs what a folder's own `package.json` names, for work that nothing else in the repository needs. */
export function installPackages(folder: string, what: string): Promise<void> {
  process.stderr.write(`Installing ${what} into ${folder}node_modules …\n`);
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'];
  return new Promise((resolve, reject) => {
    const child = spawn('npm', ['install', ...flags], {
      cwd: folder,
      stdio: ['ignore', 2, 2],
      shell: process.platform === 'win32',
    });
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`[install] npm install ended with ${code} in ${folder}`)),
    );
  });
}
