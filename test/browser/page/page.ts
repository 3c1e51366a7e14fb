import { type Done, embed, type Job } from './embed.ts';

const job: Job = JSON.parse(decodeURIComponent(location.hash.slice(1)));

function embedInWorker(): Promise<Done> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./app-worker.js', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }) => ('error' in data ? reject(new Error(data.error)) : resolve(data));
    worker.onerror = (event) => reject(new Error(event.message || 'the worker did not start'));
    worker.postMessage(job);
  });
}

const result = document.querySelector<HTMLElement>('#result')!;
try {
  result.textContent = JSON.stringify(await (job.inWorker ? embedInWorker() : embed(job)));
} catch (error) {
  result.textContent = JSON.stringify({ error: String(error) });
}
result.dataset.state = 'done';
