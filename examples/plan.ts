import { load } from '../src/runtime/index.ts';

const [path] = process.argv.slice(2);
const model = await load(path);
for (const { length, weightBytes, arenaBytes, peakBytes } of await model.plan([4, 16, 64]))
  console.log({ length, weightBytes, arenaBytes, peakBytes });
const [{ peakBytes }] = await model.plan(64);
model.dispose();

// Half of that is not enough for 64 tokens, and the runtime says so before it allocates anything.
const small = await load(path, { maxMemory: Math.floor(peakBytes / 2) }).catch((error) => error);
const refused = small instanceof Error ? small : await small.run([Array(64).fill(0)]).catch((e: Error) => e);
console.log(refused instanceof Error ? `refused: ${refused.message}` : 'not refused');
