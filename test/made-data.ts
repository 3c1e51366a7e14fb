/** Labelled text in the made encoder's few words: two topics that even random weights tell apart. */
export function madeLabelledText(): string {
  const words = {
    animal: ['fox', 'brown', 'quick', 'every'],
    machine: ['node', 'page', 'model', 'runs'],
  };
  const lines = Object.entries(words).flatMap(([label, [a, b, c, d]]) =>
    Array.from({ length: 60 }, (_, i) => {
      const all = [a, b, c, d];
      const text = [all[i % 4], all[(i >> 2) % 4], 'the', all[(i * 7) % 4], i % 3 ? 'small' : 'known'];
      return `${text.join(' ')} ${'abcdefghijklmnopqrstuvwxyz'[i % 26]},${label}`;
    }),
  );
  return ['text,label', ...lines].join('\n');
}
