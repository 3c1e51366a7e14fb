import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { PrecisionReport } from '../optimize/precision/result.ts';
import type { CardData } from '../optimize/result.ts';
import { cardHtml } from './html.ts';
import { cardMarkdown } from './markdown.ts';
import { precisionHtml, precisionMarkdown } from './precision.ts';

export interface CardFiles {
  readonly json: string;
  readonly markdown: string;
  readonly html: string;
}

/**
 * Writes `card.json`, `card.md` and `card.html` into a folder, which is made where it is missing. All three are
 * written and synced under temporary names first and renamed last, so that a card is never half-written.
 */
export const writeCard = (folder: string, card: CardData): Promise<CardFiles> =>
  writeReport(folder, 'card', { json: card, markdown: cardMarkdown(card), html: cardHtml(card) });

/** As `writeCard`: `quantization.json`, `.md` and `.html`. */
export const writePrecision = (folder: string, report: PrecisionReport): Promise<CardFiles> =>
  writeReport(folder, 'quantization', {
    json: report,
    markdown: precisionMarkdown(report),
    html: precisionHtml(report),
  });

async function writeReport(
  folder: string,
  name: string,
  { json, markdown, html }: { readonly json: unknown; readonly markdown: string; readonly html: string },
): Promise<CardFiles> {
  const contents = {
    [`${name}.json`]: `${JSON.stringify(json, null, 2)}\n`,
    [`${name}.md`]: markdown,
    [`${name}.html`]: html,
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
  const [first, second, third] = files.map(({ final }) => final);
  return { json: first, markdown: second, html: third };
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
