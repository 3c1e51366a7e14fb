import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CardData } from '../optimize/result.ts';
import { cardHtml } from './html.ts';
import { cardMarkdown } from './markdown.ts';

export interface CardFiles {
  readonly json: string;
  readonly markdown: string;
  readonly html: string;
}

/**
 * Writes `card.json`, `card.md` and `card.html` into a folder, which is made where it is missing. All three are
 * written and synced under temporary names first and renamed last, so that a card is never half-written.
 */
export async function writeCard(folder: string, card: CardData): Promise<CardFiles> {
  const contents = {
    'card.json': `${JSON.stringify(card, null, 2)}\n`,
    'card.md': cardMarkdown(card),
    'card.html': cardHtml(card),
  };
  await mkdir(folder, { recursive: true });
  const run = randomUUID();
  const files = Object.entries(contents).map(([name, content]) => ({
    content,
    temporary: join(folder, `.${name}.${run}.tmp`),
    final: join(folder, name),
  }));
  try {
    for (const { temporary, content } of files) await writeSynced(temporary, content);
    for (const { temporary, final } of files) await rename(temporary, final);
  } catch (error) {
    for (const { temporary } of files) await rm(temporary, { force: true });
    throw error;
  }
  const [json, markdown, html] = files.map(({ final }) => final);
  return { json, markdown, html };
}

async function writeSynced(path: string, content: string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(content, 'utf8');
    await file.sync();
  } finally {
    await file.close();
  }
}
