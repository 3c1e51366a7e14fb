import { load } from '../src/runtime/index.ts';

const [path, text = 'the quick brown fox runs'] = process.argv.slice(2);
const model = await load(path);

// What someone types, word by word. With threshold 0 each result is that of a fresh run, to the bit.
const stream = await model.stream({ threshold: 0 });
const words = text.split(' ');
for (let typed = 1; typed <= words.length; typed++) {
  const { recomputed } = await stream.push(words.slice(0, typed).join(' '));
  console.log(`${recomputed.rows} of ${recomputed.ofRows} rows: ${words.slice(0, typed).join(' ')}`);
}
const { embedding, recomputed } = await stream.push(text);
console.log(`${recomputed.rows} of ${recomputed.ofRows} rows, as nothing changed`);
const [fresh] = await model.embed([text]);
console.log(`equals a fresh run: ${fresh.every((x, i) => x === embedding![i])}`);

stream.dispose();
model.dispose();
