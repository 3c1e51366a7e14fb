import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { build } from 'esbuild';
import { encodeArtifact } from '../../src/format/index.ts';
import { loadModel } from '../../src/runtime/index.ts';
import { madeEncoder } from '../made-encoder.ts';

const root = resolve(import.meta.dirname, '../..');
const require = createRequire(import.meta.url);
const { version, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

let passed = 0;
const failures: string[] = [];
const check = async (what: string, body: () => unknown) => {
  try {
    await body();
    passed++;
    console.log(`ok    ${what}`);
  } catch (error) {
    failures.push(what);
    console.error(`FAIL  ${what}\n      ${String(error instanceof Error ? error.message : error).trim()}`);
  }
};

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    timeout: 300_000,
    // A package manager that runs this script hands its own settings on; the installed copy must not see them.
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('npm_'))),
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${status}\n${stderr}${stdout}`);
  return stdout;
}

const expect = (right: boolean, message: string) => {
  if (!right) throw new Error(message);
};

/** Node of a major version: the devDependency, or one on the path that is no package's own. */
function findNode(major: number): string | null {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((f) => f && !f.includes('node_modules'));
  const devDependency = join(dirname(require.resolve('node/package.json')), 'bin');
  for (const folder of [devDependency, ...folders]) {
    const { stdout } = spawnSync(join(folder, 'node'), ['--version'], { encoding: 'utf8' });
    if (stdout?.startsWith(`v${major}.`)) return join(folder, 'node');
  }
  return null;
}

const folder = mkdtempSync(join(tmpdir(), 'attenuate-smoke-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const packed = JSON.parse(
  run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], root),
);
// npm 12 gives an object by package name where earlier ones gave a list.
const { filename, files } = Array.isArray(packed) ? packed[0] : Object.values<never>(packed)[0];

await check('the tarball holds no tests, sources or settings of this repository', () => {
  const strays = files
    .map((file: { path: string }) => file.path)
    .filter((path: string) => /\.test\.|^(src|test|bench|scripts)\/|tsconfig|\.npmrc/.test(path));
  expect(strays.length === 0, `in the tarball: ${strays.join(', ')}`);
});

await check('publint finds nothing wrong', async () => {
  const { publint } = await import('publint');
  const { formatMessage } = await import('publint/utils');
  const { messages, pkg } = await publint({ pkgDir: root, strict: true, pack: 'npm' });
  expect(messages.length === 0, messages.map((m) => formatMessage(m, pkg!, { color: false })).join('\n'));
});

const app = join(folder, 'app');
await check('the tarball installs in an empty folder without scripts', () => {
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), JSON.stringify({ type: 'module', private: true }));
  run(
    'npm',
    [
      ...['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'],
      join(folder, filename),
    ],
    app,
  );
  expect(readdirSync(join(app, 'node_modules')).includes('attenuate'), 'it is not there');
});

const made = madeEncoder();
writeFileSync(join(app, 'model.safetensors'), await encodeArtifact(made));
const loaded = await loadModel(made);
const [embedded] = await loaded.embed(['a small model runs']);
loaded.dispose();

const subpaths = Object.keys(exports).filter((path) => !path.endsWith('.json'));
for (const major of [20, 24]) {
  const node = findNode(major);
  if (!node) {
    if (process.env.CI === 'true')
      await check(`Node ${major} is installed`, () => expect(false, 'none found'));
    else console.log(`skip  Node ${major}: none is installed`);
    continue;
  }
  for (const path of subpaths) {
    const specifier = `attenuate${path.slice(1)}`;
    await check(`Node ${major} imports ${specifier}`, () => {
      const code = `const names = Object.keys(await import('${specifier}')); if (names.length === 0) throw new Error('it exports nothing'); process.exit(0)`;
      run(node, ['--input-type=module', '--eval', code], app);
    });
  }
  const cli = join(app, 'node_modules/attenuate/dist/cli/main.js');
  await check(`Node ${major} runs attenuate --version`, () => {
    const said = run(node, [cli, '--version'], app).trim();
    expect(said.endsWith(version), `expected ${version}, got ${said}`);
  });
  await check(`Node ${major} runs attenuate --help`, () => {
    const said = run(node, [cli, '--help'], app);
    expect(said.includes('optimize'), `the help does not name optimize:\n${said}`);
  });
  await check(`Node ${major} embeds a text as the sources do, with one thread and two`, () => {
    const code = `
      import { load } from 'attenuate';
      const rows = [];
      for (const threads of [1, 2]) {
        const model = await load('model.safetensors', { threads });
        rows.push([...(await model.embed(['a small model runs']))[0]]);
        model.dispose();
      }
      console.log(JSON.stringify(rows));
      process.exit(0);`;
    for (const row of JSON.parse(run(node, ['--input-type=module', '--eval', code], app)) as number[][]) {
      const worst = Math.max(...row.map((x, i) => Math.abs(x - embedded[i])));
      expect(row.length === embedded.length && worst < 1e-5, `worst difference ${worst}`);
    }
  });
}

/** The example of README that trains in a page. */
const trainingPage = /```ts\n(import \{ applyRecipe \}[\s\S]*?)```/.exec(
  readFileSync(join(root, 'README.md'), 'utf8'),
)![1];
const pages = {
  'page.ts': `import { load } from 'attenuate';\nconsole.log(await load('/m'));\n`,
  'train.ts': `declare const recipe: object[], lines: string[];\n${trainingPage}\nconsole.log(artifact.length);\n`,
};

for (const [page, source] of Object.entries(pages)) {
  writeFileSync(join(app, page), source);
  await check(`a browser bundle of the installed package needs nothing of Node: ${page}`, async () => {
    const { outputFiles, warnings } = await build({
      absWorkingDir: app,
      entryPoints: [page],
      bundle: true,
      minify: true,
      format: 'esm',
      platform: 'browser',
      target: 'es2023',
      logLevel: 'silent',
      write: false,
    });
    expect(warnings.length === 0, warnings.map((w) => w.text).join('\n'));
    expect(!/["']node:/.test(outputFiles[0].text), 'the bundle names a node: module');
  });
}

await check('strict TypeScript programs compile against the declarations', () => {
  writeFileSync(
    join(app, 'use.ts'),
    [
      `import { load } from 'attenuate';`,
      `const model = await load('model.safetensors', { threads: 2 });`,
      `const rows: Float32Array[] = await model.embed(['a text']);`,
      `console.log(rows.length);`,
    ].join('\n'),
  );
  const settings = {
    compilerOptions: {
      target: 'es2023',
      module: 'nodenext',
      lib: ['es2023', 'dom'],
      types: [],
      strict: true,
      noEmit: true,
    },
    files: ['use.ts', 'train.ts'],
  };
  writeFileSync(join(app, 'tsconfig.json'), JSON.stringify(settings));
  const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc');
  run(process.execPath, [tsc, '-p', app], app);
});

console.log(`smoke: ${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;
