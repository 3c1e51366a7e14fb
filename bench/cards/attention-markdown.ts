export interface CardRow {
  readonly name: string;
  readonly kind: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly training: 'none' | 'recommended' | 'required';
  readonly calibration: boolean;
  /** Spearman on STS-B dev. */
  readonly stsb: number | null;
  /** Accuracy of the probe on long mails, of `spamTest` mails. */
  readonly spam: number | null;
  readonly spamTest: number;
  readonly bytes: number | null;
  readonly madeSeconds: number | null;
  /** Why there are no figures. */
  readonly failed: string | null;
}

const shown = (value: unknown): string => {
  const text = JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 37)}…` : text;
};

function line(row: CardRow, dense: CardRow | undefined): string {
  const options = Object.entries(row.options)
    .map(([name, value]) => `${name} ${shown(value)}`)
    .join(', ');
  const needs = [
    row.calibration ? 'calibration' : '',
    row.training === 'none' ? '' : `training ${row.training}`,
  ].filter(Boolean);
  const change = (value: number | null, base: number | null | undefined): string =>
    value === null || base === null || base === undefined
      ? ''
      : ` (${value >= base ? '+' : '−'}${Math.abs(value - base).toFixed(3)})`;
  const cells = row.failed
    ? ['–', '–', row.failed.replaceAll('|', '\\|')]
    : [
        `${row.stsb!.toFixed(4)}${change(row.stsb, dense?.stsb)}`,
        `${row.spam!.toFixed(3)}${change(row.spam, dense?.spam)}`,
        `${(row.bytes! / 1e6).toFixed(1)} MB`,
      ];
  return `| ${[`\`${row.name}\``, options || '–', needs.join(', ') || 'nothing', ...cells].join(' | ')} |`;
}

/** The card as Markdown. @param missing rows that are not measured yet */
export function attentionCard(rows: readonly CardRow[], missing: readonly string[] = []): string {
  const dense = rows.find(({ name }) => name === 'dense');
  const test = dense?.spamTest ?? 0;
  const error = test > 0 && dense?.spam ? Math.sqrt((dense.spam * (1 - dense.spam)) / test) : 0;
  return `# Attention mechanisms without training

Written by \`npm run card:attention\`. Every row is all-MiniLM-L6-v2 (float32) with one mechanism in **all** of its six layers, made from the dense weights (and from calibration text, where it asks for some) with no training step. All figures are measured.

- **STS-B dev**: Spearman of cosine similarity against people's scores, 1,500 pairs of short sentences (about 16 tokens).
- **Long mails**: accuracy of a linear probe on frozen embeddings of SpamAssassin's mails of 2,000 characters and more, headers and markup taken off, cut at the model's length; 200 mails to learn from, ${test} to be tested on (standard error about ${error.toFixed(3)}).
- Calibration text comes from STS-B's training sentences and from the mails that the probe learns from, never from what is scored.

A mechanism that loses much here is not useless: it is one that needs training before it is used. Where a pattern is wider than the texts, nothing changes at all: a window of 128 sees every token of a short sentence.

| mechanism | options | needs | STS-B dev | long mails | weights |
|---|---|---|---|---|---|
${rows.map((row) => line(row, dense)).join('\n')}
${missing.length ? `\nNot measured yet: ${missing.map((name) => `\`${name}\``).join(', ')}. The command above goes on with them.\n` : ''}`;
}
