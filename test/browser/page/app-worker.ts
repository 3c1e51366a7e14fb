import { embed } from './embed.ts';

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(await embed(data));
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
};
