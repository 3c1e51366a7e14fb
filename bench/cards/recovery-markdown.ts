import type { Interval } from '../bootstrap.ts';
import type { Loss } from './recovery-rows.ts';

/** A model on what is judged. */
export interface Judged {
  /** Spearman on STS-B dev, and that against the float model. */
  readonly stsb: number;
  readonly change: Interval;
  readonly documents: {
    /** Of long documents' embeddings with the float model's, mean. */
    readonly cosine: number;
    /** Share of second halves of documents whose nearest first half is their own. */
    readonly found: number;
  } | null;
}

export interface RecoveryRow extends Loss {
  readonly seed: number;
  readonly minutes?: number;
  readonly bytes?: number;
  readonly float?: Judged;
  readonly before?: Judged;
  readonly after?: Judged;
  readonly failed: string | null;
}

const signed = (value: number): string => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(4)}`;
const loss = ({ stsb, change }: Judged): string =>
  `${stsb.toFixed(4)} (${signed(change.value)} ± ${change.error.toFixed(4)})`;
const failure = (row: RecoveryRow, cells: number): string =>
  `| ${row.title} | ${row.failed!.replaceAll('|', '\\|')} |${' |'.repeat(cells - 2)}`;

function codesLine(row: RecoveryRow): string {
  if (row.failed) return failure(row, 6);
  const { title, bytes, before, after, minutes } = row;
  const share = after!.change.value / before!.change.value;
  return `| ${[
    title,
    `${(bytes! / 1e6).toFixed(2)} MB`,
    loss(before!),
    loss(after!),
    share > 0 ? `${Math.round(100 * share)} %` : 'none',
    minutes!.toFixed(0),
  ].join(' | ')} |`;
}

function attentionLine(row: RecoveryRow): string {
  if (row.failed) return failure(row, 8);
  const { title, before: b, after: a, minutes } = row;
  return `| ${[
    title,
    ...[b!, a!].map(({ documents }) => documents!.found.toFixed(3)),
    ...[b!, a!].map(({ documents }) => documents!.cosine.toFixed(3)),
    ...[b!, a!].map(({ stsb }) => stsb.toFixed(4)),
    minutes!.toFixed(0),
  ].join(' | ')} |`;
}

/** The card as Markdown. @param missing rows that are not measured yet */
export function recoveryCard(rows: readonly RecoveryRow[], missing: readonly string[] = []): string {
  const float = rows.find((row) => row.float)?.float;
  const long = rows.find((row) => row.float?.documents)?.float?.documents;
  const of = (on: Loss['on']) => rows.filter((row) => row.on === on);
  return `# What training brings back

Written by \`npm run card:recovery\`. Every row is all-MiniLM-L6-v2 with one recipe step, measured as it is and after \`"recover"\` trained it towards the model that it was, on text without labels, seed 1. All figures are measured; options of each row stand in the JSON file beside this one.

## Codes

Trained on the sentences of STS-B's training part, without their scores and without any that is measured on. STS-B dev: Spearman, in brackets against float32 (${float?.stsb.toFixed(4) ?? 'not measured yet'}) with its standard error by paired bootstrap. Inputs of products are in 8 bits throughout.

| storage | artifact | before | after | loss that is left | minutes |
|---|---|---|---|---|---|
${of('sentences').map(codesLine).join('\n')}

## Attention

The mechanism stands in all six layers. Trained on pieces of mails (SpamAssassin) that no score is taken from, cut at 256 tokens; each layer's output counts too (\`"layers": 1\`). Judged on other long mails: the share of second halves of 150 words whose nearest first half, among all, is their own (float32: ${long?.found.toFixed(3) ?? 'not measured yet'}), and the mean cosine of first halves' embeddings with the float model's. STS-B dev shows what became of short sentences, which this training did not see.

| mechanism | halves found before | after | cosine before | after | STS-B dev before | after | minutes |
|---|---|---|---|---|---|---|---|
${of('documents').map(attentionLine).join('\n')}
${missing.length ? `\nNot measured yet: ${missing.map((name) => `\`${name}\``).join(', ')}. The command above goes on with them.\n` : ''}`;
}
