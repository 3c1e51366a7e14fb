import { load } from '../../src/runtime/browser.ts';

const LINES = ['a small model', 'the quick brown fox', 'every word known to the page'];

const question = document.querySelector<HTMLInputElement>('#question')!;
const answer = document.querySelector<HTMLElement>('#answer')!;

const model = await load('/model.safetensors');
const rows = await model.embed(LINES);
answer.textContent = 'ready';

question.addEventListener('change', async () => {
  const [query] = await model.embed([question.value]);
  const scores = rows.map((row) => row.reduce((sum, value, i) => sum + value * query[i], 0));
  answer.textContent = LINES[scores.indexOf(Math.max(...scores))];
});
