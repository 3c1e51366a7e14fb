import { PEERS } from '../peers.ts';
import type { Machine } from '../report.ts';
import { HEADS } from './inputs.ts';
import { REAL_LENGTH } from './real.ts';
import { shareOfCeiling, sizesOf, timesFaster } from './report-rows.ts';
import type { Figure, Part, Store } from './store.ts';
import { crossovers, summaryRows } from './summary.ts';

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

const milliseconds = (ms: number): string => (ms >= 1000 ? ms.toFixed(0) : ms.toPrecision(3));
const times = (x: number | null): string =>
  x === null ? '–' : `${x >= 100 ? x.toFixed(0) : x.toPrecision(3)}×`;
const megabytes = (bytes: number | null): string => (bytes === null ? '–' : `${(bytes / 1e6).toFixed(1)} MB`);
const small = (x: number | null): string =>
  x === null ? '–' : x === 0 ? '0' : x < 1e-3 ? x.toExponential(1) : x.toPrecision(2);
const verdict = (agrees: boolean | null): string => (agrees === null ? '' : agrees ? 'yes' : '**no**');

const machineLine = ({ cpu, engine, dot, ceilings }: Machine): string =>
  `${cpu}, ${engine}, dot \`${dot}\`; ceilings of 128-bit loops on one thread, G(FL)OP/s: ${Object.entries(
    ceilings,
  )
    .map(([name, value]) => `${name} ${value === null ? 'not there' : value.toFixed(1)}`)
    .join(', ')}`;

function machines({ settings, real }: Store): string {
  const byLine = new Map<string, string[]>();
  for (const [id, { machine }] of [...Object.entries(settings), ...Object.entries(real)]) {
    const line = `${machine.cpu}, ${machine.engine}, dot \`${machine.dot}\``;
    byLine.set(line, [...(byLine.get(line) ?? []), id]);
  }
  return [...byLine]
    .map(([line, ids]) => `- ${line}: ${byLine.size === 1 ? 'all of it' : ids.join(', ')}`)
    .join('\n');
}

/** A mechanism by length: milliseconds, and how many times faster than dense. */
function overview(store: Store, D: number): string {
  const parts = Object.entries(store.settings)
    .filter(([id]) => sizesOf(id).D === D)
    .sort(([a], [b]) => sizesOf(a).n - sizesOf(b).n);
  const names = [...new Set(parts.flatMap(([, { figures }]) => figures.map(({ name }) => name)))];
  const cross = new Map(
    crossovers(store)
      .filter((one) => one.D === D)
      .map((one) => [one.name, one]),
  );
  const cell = (part: Part<Figure>, name: string): string => {
    const figure = part.figures.find((known) => known.name === name);
    if (!figure) return '';
    if (figure.ms === null) return 'fails';
    const faster = name === 'dense' ? '' : ` (${times(timesFaster(part, figure, 'dense'))})`;
    return `${milliseconds(figure.ms)}${faster}`;
  };
  const from = (name: string): string => {
    const one = cross.get(name);
    if (!one) return '';
    return one.length === null ? 'never' : one.always ? `≤ ${one.length}` : `${one.length}`;
  };
  return table(
    ['', ...parts.map(([id]) => `n = ${sizesOf(id).n}`), 'faster than dense from'],
    names.map((name) => [`\`${name}\``, ...parts.map(([, part]) => cell(part, name)), from(name)]),
  );
}

function detail(id: string, part: Part<Figure>): string {
  const { D, n } = sizesOf(id);
  const share = shareOfCeiling(id, part);
  const failures = part.figures.flatMap(({ name, note }) => (note ? [`- \`${name}\`: ${note}`] : []));
  return [
    `### ${HEADS} heads of ${D}, n = ${n}`,
    `${machineLine(part.machine)}.${share === null ? '' : ` Dense attention runs at ${(100 * share).toFixed(0)} % of the ceiling.`}`,
    table(
      ['', 'ms', '× dense', `× ${PEERS[0]}`, 'peak', 'scratch', 'relative L1', 'agrees'],
      part.figures.map((figure) => [
        `\`${figure.name}\``,
        figure.ms === null ? 'fails' : milliseconds(figure.ms),
        times(timesFaster(part, figure, 'dense')),
        times(timesFaster(part, figure, PEERS[0])),
        megabytes(figure.peakBytes),
        megabytes(figure.scratchBytes),
        small(figure.relativeL1),
        verdict(figure.agrees),
      ]),
    ),
    ...(failures.length ? [failures.join('\n')] : []),
  ].join('\n\n');
}

function realTable({ real }: Store): string {
  const figures = Object.values(real).flatMap((part) => part.figures);
  const layers = [...new Set(figures.map(({ layer }) => layer))].sort((a, b) => a - b);
  const names = [...new Set(figures.map(({ name }) => name))];
  return table(
    ['', ...layers.map((layer) => `layer ${layer}`)],
    names.map((name) => [
      `\`${name}\``,
      ...layers.map((layer) => {
        const figure = figures.find((one) => one.name === name && one.layer === layer);
        if (!figure) return '';
        const kept = figure.kept === null ? '' : `, ${(100 * figure.kept).toFixed(0)} % kept`;
        return `${figure.timesDense.toFixed(2)}×, L1 ${(100 * figure.relativeL1).toFixed(1)} %, cos ${figure.cosine.toFixed(5)}${kept}`;
      }),
    ]),
  );
}

/** The page on speed, from all that is known. */
export function speedPage(store: Store): string {
  const parts = Object.entries(store.settings).sort(([a], [b]) => {
    const [x, y] = [sizesOf(a), sizesOf(b)];
    return x.D - y.D || x.n - y.n;
  });
  const sizes = [...new Set(parts.map(([id]) => sizesOf(id).D))];
  const summaries = summaryRows(store).filter(({ id }) => !id.startsWith('crossover-'));
  return `# How fast attention mechanisms are

Written by \`npm run bench -- attention\`, which goes on where it stopped and measures in parts (\`--only d32-n4096\`, \`--minutes 4\`). All figures are measured, on one thread.

- **ms**: attention alone, ${HEADS} heads, with queries, keys and values where the kernels read them and the output left where they write it: what it costs inside a model. A peer's time is that of a run of its session, in which its inputs and output are copied; it is the faster of two graphs, plain operators or its own fused one.
- **× dense**: how many times faster than our own dense attention. It is a ratio of medians; contenders are timed in turn, in batches.
- **peak**: ours is the arena with inputs, output and scratch, exact before anything runs; a peer's is what its process held above its inputs.
- **relative L1**: against dense attention in float64 on inputs of unit variance. Mechanisms that do not compute dense attention are far from it there; what they do to a real model is in [attention.md](attention.md). *Agrees*: with what the mechanism stands for, masked attention in float64 or (n = 128) its own float64 reference.
- Machines:
${machines(store)}

${sizes.map((D) => `## Heads of ${D}: ms (× dense)\n\n${overview(store, D)}`).join('\n\n')}

## Laws

${table(
  ['row', 'what', 'measured', 'limit', 'kept', ''],
  summaries.map(({ id, metric, ours, tolerance, agrees, note }) => [
    `\`${id}\``,
    metric,
    small(ours),
    tolerance ?? '',
    verdict(agrees),
    note ?? '',
  ]),
)}

## On a real model's activations

all-MiniLM-L6-v2 over long mails in a row, ${REAL_LENGTH} tokens, positions tiled: speed against our dense attention, error and cosine of one layer's output against it.

${realTable(store)}

## Every figure

${parts.map(([id, part]) => detail(id, part)).join('\n\n')}
`;
}
