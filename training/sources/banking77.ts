import { readFile } from 'node:fs/promises';
import { parse } from 'csv-parse/sync';
import type { Source } from './source.ts';

/** The training part only; its labels are not read. @param file `train.csv` with columns text, category */
export const banking77 = (file: string): Source => ({
  name: 'banking77, training part: questions (Casanueva et al. 2020)',
  licence: 'CC BY 4.0',
  origin: 'github PolyAI-LDN/task-specific-datasets',
  async *texts() {
    for (const { text } of parse(await readFile(file, 'utf8'), { columns: true }) as { text: string }[])
      yield text.replace(/\s+/g, ' ').trim();
  },
});
