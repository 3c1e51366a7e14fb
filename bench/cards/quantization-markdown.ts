import type { Interval } from '../bootstrap.ts';
import { SUBJECTS, type Subject } from './quantization-rows.ts';

/** A point of the front: a size, and what is lost there. */
export interface FrontRow {
  readonly name: string;
  readonly kind: 'mixed' | 'uniform';
  readonly bytes: number;
  /** Relative error of the outputs, on text that the search did not see. */
  readonly output: number;
  readonly stsb: number;
}

export interface QuantizationRow {
  readonly name: string;
  readonly title: string;
  readonly recipe: readonly object[];
  readonly weightBytes?: number;
  /** Of the artifact. */
  readonly bytes?: number;
  readonly madeSeconds?: number;
  /** Spearman on STS-B dev. */
  readonly stsb?: number;
  /** Against float32. */
  readonly change?: Interval;
  readonly front?: readonly FrontRow[];
  /** A mixture against the uniform model of its size. */
  readonly against?: Interval;
  /** Why there are no figures. */
  readonly failed: string | null;
}

const mb = (bytes: number): string => (bytes / 1e6).toFixed(2);
const signed = (value: number, digits = 4): string =>
  `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(digits)}`;

function line({ title, failed, weightBytes, bytes, stsb, change }: QuantizationRow): string {
  const cells = failed
    ? ['–', '–', '–', failed.replaceAll('|', '\\|')]
    : [
        mb(weightBytes!),
        mb(bytes!),
        stsb!.toFixed(4),
        title === 'float32' ? '' : `${signed(change!.value)} ± ${change!.error.toFixed(4)}`,
      ];
  return `| ${[title, ...cells].join(' | ')} |`;
}

const dominated = (point: FrontRow, others: readonly FrontRow[]): boolean =>
  others.some((o) => o.bytes <= point.bytes && o.output <= point.output && o !== point);

function frontPart({ front = [], against }: QuantizationRow): string {
  if (!against) return '';
  const uniform = front.filter(({ kind }) => kind === 'uniform');
  const points = [...front].sort((a, b) => a.bytes - b.bytes);
  const excludes = against.low > 0 || against.high < 0;
  const verdict = excludes ? 'the interval excludes 0' : 'the interval does not exclude 0';
  return `
**Mixture against uniform int4 g32, at its size:** ${signed(against.value)} Spearman on STS-B dev, 95 % paired bootstrap interval ${signed(against.low)} to ${signed(against.high)}: ${verdict}. Neither saw these pairs.

Mixtures by size, and uniform widths beside them. Output error is the relative error of embeddings, on training text that the search did not see.

| point | MB | output error | STS-B dev | |
|---|---|---|---|---|
${points
  .map(
    (point) =>
      `| ${point.kind === 'mixed' ? `**${point.name}**` : point.name} | ${mb(point.bytes)} | ${point.output.toPrecision(3)} | ${point.stsb.toFixed(4)} | ${point.kind === 'mixed' && dominated(point, uniform) ? 'a uniform width is no worse' : ''} |`,
  )
  .join('\n')}
`;
}

/** The card as Markdown. @param missing rows that are not measured yet */
export function quantizationCard(rows: readonly QuantizationRow[], missing: readonly string[] = []): string {
  const part = (subject: Subject): string => {
    const own = rows.filter(({ name }) => name.startsWith(`${subject}:`));
    const mixed = own.find(({ front }) => front);
    return `## ${SUBJECTS[subject]}

| storage | weights, MB | artifact, MB | STS-B dev | against float32 |
|---|---|---|---|---|
${own.map(line).join('\n')}
${mixed ? frontPart(mixed) : ''}`;
  };
  return `# Quantisation

Written by \`npm run card:quantization\`. Every row is a real model, stored by one recipe and run in that arithmetic; no training. All figures are measured.

- **STS-B dev**: Spearman of cosine similarity against people's scores, 1,500 pairs of short sentences; beside it the change against float32 and its standard error (paired bootstrap, 1,000 resamples).
- What is fitted (ranges, smoothing, GPTQ, mixtures) saw text of STS-B's training part alone, without its scores and without any sentence that is measured on.
- Embedding tables below 4 bits are stored in int4; the recipe of each row stands in the JSON file beside this one. What training brings back stands in [recovery.md](recovery.md).

${(Object.keys(SUBJECTS) as Subject[]).map(part).join('\n')}
${missing.length ? `Not measured yet: ${missing.map((name) => `\`${name}\``).join(', ')}. The command above goes on with them.\n` : ''}`;
}
