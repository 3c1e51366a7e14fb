import type { TextModel } from '../src/runtime/types.ts';
import { fastestPeer, type Peer, type Precision } from './peers.ts';
import type { Subjects } from './subjects.ts';

export const WEB = 'onnxruntime-web';

export const embedPeer =
  (peer: Peer, model: TextModel) =>
  async (texts: string[]): Promise<Float32Array[]> => {
    const vectors: Float32Array[] = [];
    for (const text of texts) vectors.push(await peer.embed(await model.tokenize(text)));
    return vectors;
  };

/** @throws where it does not run here */
export async function openWeb(subjects: Subjects, precision: Precision): Promise<Peer> {
  const ids = await subjects.ids(256);
  const found = await fastestPeer(WEB, await subjects.model('float32'), precision, ids, null);
  if ('unavailable' in found) throw new Error(found.unavailable);
  return found.peer;
}
