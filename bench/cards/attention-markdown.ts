import { formatAttention } from '../../src/compress/index.ts';

export interface CardRow {
  readonly name: string;
  readonly kind: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly training: 'none' | 'recommended' | 'required';
  readonly calibration: boolean;
  /** Spearman on STS-B dev. */
  readonly stsb: number | null;
  /** What the probe made of each long mail: 1 right, 0 wrong. */
  readonly mails: string | null;
  readonly bytes: number | null;
  readonly madeSeconds: number | null;
  /** Why there are no figures. */
  readonly failed: string | null;
}

/** Share of mails that are told apart. */
export const accuracyOf = (mails: string): number => (mails.split('1').length - 1) / mails.length;

/** Standard error of the mean of `x`. */
function standardError(x: readonly number[]): number {
  const mean = x.reduce((a, b) => a + b, 0) / x.length;
  return Math.sqrt(x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length ** 2);
}

const signed = (value: number, digits: number): string =>
  `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(digits)}`;

function stsbCell({ stsb }: CardRow, dense: CardRow | undefined): string {
  const base = dense?.stsb;
  const change = base === null || base === undefined ? '' : ` (${signed(stsb! - base, 3)})`;
  return `${stsb!.toFixed(4)}${change}`;
}

/** Accuracy, and what it is apart from dense: of the same mails, so that the error is that of the difference. */
function mailsCell({ mails }: CardRow, dense: CardRow | undefined): string {
  const accuracy = accuracyOf(mails!).toFixed(3);
  if (!dense?.mails || dense.mails === mails) return accuracy;
  const apart = Array.from(mails!, (right, i) => Number(right) - Number(dense.mails![i]));
  const mean = apart.reduce((a, b) => a + b, 0) / apart.length;
  return `${accuracy} (${signed(mean, 3)} ± ${standardError(apart).toFixed(3)})`;
}

function line(row: CardRow, dense: CardRow | undefined): string {
  const notation = formatAttention({ kind: row.kind, ...row.options });
  const needs = [
    row.calibration ? 'calibration' : '',
    row.training === 'none' ? '' : `training ${row.training}`,
  ].filter(Boolean);
  const cells = row.failed
    ? ['–', '–', row.failed.replaceAll('|', '\\|')]
    : [stsbCell(row, dense), mailsCell(row, dense), `${(row.bytes! / 1e6).toFixed(1)} MB`];
  return `| ${[`\`${notation}\``, needs.join(', ') || 'nothing', ...cells].join(' | ')} |`;
}

/** The card as Markdown. @param missing rows that are not measured yet */
export function attentionCard(rows: readonly CardRow[], missing: readonly string[] = []): string {
  const dense = rows.find(({ name }) => name === 'dense');
  const mails = dense?.mails ?? '';
  const error = standardError(Array.from(mails, Number));
  return `# Attention mechanisms without training

Written by \`npm run card:attention\`. Every row is all-MiniLM-L6-v2 (float32) with one mechanism in **all** of its six layers, made from the dense weights (and from calibration text, where it asks for some) with no training step. All figures are measured.

- **STS-B dev**: Spearman of cosine similarity against people's scores, 1,500 pairs of short sentences (about 16 tokens).
- **Long mails**: accuracy of a linear probe on frozen embeddings of SpamAssassin's mails of 2,000 characters and more, headers and markup taken off, cut at the model's length: ${mails.length} mails, each scored by a probe that learnt from four fifths of the others (standard error about ${error.toFixed(3)}). In brackets what a row is apart from dense, and the standard error of that: the mails are the same.
- Calibration text comes from STS-B's training sentences and from other mails, never from what is scored.

Options that are not named have their defaults ([docs/attention.md](../attention.md)). A mechanism that loses much here is not useless: it is one that needs training before it is used. Where a pattern is wider than the texts, nothing changes at all: a window of 128 sees every token of a short sentence.

| mechanism | needs | STS-B dev | long mails | weights |
|---|---|---|---|---|
${rows.map((row) => line(row, dense)).join('\n')}
${missing.length ? `\nNot measured yet: ${missing.map((name) => `\`${name}\``).join(', ')}. The command above goes on with them.\n` : ''}`;
}
