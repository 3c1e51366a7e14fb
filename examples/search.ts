import { text } from 'node:stream/consumers';
import { load } from '../src/runtime/index.ts';

const [path, question] = process.argv.slice(2);
const lines = (await text(process.stdin)).split('\n').filter((line) => line.trim() !== '');

const model = await load(path);
const [query, ...rows] = await model.embed([question, ...lines]);
model.dispose();

const similarity = (row: Float32Array) => row.reduce((sum, value, i) => sum + value * query[i], 0);
const ranked = rows.map((row, i) => ({ line: lines[i], score: similarity(row) }));
for (const { line, score } of ranked.sort((a, b) => b.score - a.score).slice(0, 3))
  console.log(`${score.toFixed(3)}  ${line}`);
