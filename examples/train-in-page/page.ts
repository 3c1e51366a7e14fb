const find = <T extends HTMLElement>(id: string): T => document.querySelector<T>(`#${id}`)!;
const [texts, state] = [find<HTMLTextAreaElement>('texts'), find('state')];
let worker: Worker | undefined;

function offer(artifact: Uint8Array<ArrayBuffer>): void {
  const link = document.createElement('a');
  link.textContent = 'Save the trained model';
  link.download = 'model.safetensors';
  link.href = URL.createObjectURL(new Blob([artifact]));
  document.body.append(link);
}

// With the same text a run goes on where it was, after the page was closed too.
find('train').addEventListener('click', () => {
  worker?.terminate();
  worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  worker.onmessage = ({ data }: MessageEvent<{ state: string; artifact?: Uint8Array<ArrayBuffer> }>) => {
    state.textContent = data.state;
    if (data.artifact) offer(data.artifact);
  };
  worker.postMessage({ texts: texts.value.split('\n').filter((line) => line.trim() !== '') });
});
find('stop').addEventListener('click', () => worker?.postMessage('stop'));
