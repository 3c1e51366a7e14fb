import type { Dataset } from './data.ts';

/** Each once: texts to calibrate on, never one that is measured on. `own` replaces those of the training part. */
export function calibrationTexts(data: Dataset, own?: readonly string[]): string[] {
  const both = ({ first, second }: { readonly first: string; readonly second: string }) => [first, second];
  const [train, test] =
    data.kind === 'labels'
      ? [data.train.map(({ text }) => text), data.test.map(({ text }) => text)]
      : [(data.train ?? []).flatMap(both), data.pairs.flatMap(both)];
  const measured = new Set(test);
  return [...new Set(own ?? train)].filter((text) => !measured.has(text));
}
