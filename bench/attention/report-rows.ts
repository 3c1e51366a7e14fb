import { median } from '../outputs.ts';
import { PEERS } from '../peers.ts';
import { failedRow, type Row } from '../report.ts';
import { variants } from './cases.ts';
import { HEADS } from './inputs.ts';
import { REAL_LENGTH, realNames } from './real.ts';
import type { Figure, Part, RealFigure, Store } from './store.ts';

/** A part's head size and length. */
export function sizesOf(part: string): { D: number; n: number } {
  const [, D, n] = /^d(\d+)-n(\d+)$/.exec(part)!;
  return { D: Number(D), n: Number(n) };
}

/** How many times faster than another contender of the same part; null where one of them has no time. */
export function timesFaster(part: Part<Figure>, { ms }: Figure, than: string): number | null {
  const other = part.figures.find(({ name }) => name === than)?.ms ?? null;
  return ms === null || other === null ? null : other / ms;
}

/** Share of the 128-bit ceiling of that machine that dense attention reaches. */
export function shareOfCeiling(id: string, { figures, machine }: Part<Figure>): number | null {
  const { D, n } = sizesOf(id);
  const ms = figures.find(({ name }) => name === 'dense')?.ms ?? null;
  const ceiling = machine.ceilings.f32Fused ?? machine.ceilings.f32MulAdd;
  return ms === null || ceiling === null ? null : (4 * HEADS * n * n * D) / (ms * 1e6) / ceiling;
}

const isPeer = (name: string): boolean => (PEERS as readonly string[]).includes(name);

/** One row for each mechanism and peer of the parts asked for. */
export function settingRows({ settings }: Store, wanted: (part: string) => boolean): Row[] {
  return Object.entries(settings).flatMap(([id, part]) =>
    part.figures
      .filter(({ name }) => wanted(id) && !isPeer(name))
      .map((figure): Row => {
        const peers = Object.fromEntries(
          PEERS.map((name) => [name, part.figures.find((other) => other.name === name)?.ms ?? null]),
        );
        const dense = figure.name === 'dense';
        const failures = part.figures.flatMap(({ name, ms, note }) =>
          dense && isPeer(name) && ms === null ? [`${name}: ${note}`] : [],
        );
        return {
          id: `${figure.name}-${id}`,
          metric: `attention alone, ${HEADS} heads of ${sizesOf(id).D}, one thread; peers: dense`,
          unit: 'ms',
          better: 'lower',
          ours: figure.ms,
          peers,
          ratio: timesFaster(part, figure, PEERS[0]),
          agrees: figure.agrees,
          tolerance: figure.within && `relative L1 ≤ ${figure.within}`,
          details: {
            relativeL1: figure.relativeL1,
            peakBytes: figure.peakBytes,
            scratchBytes: figure.scratchBytes,
            timesDense: timesFaster(part, figure, 'dense'),
            shareOfCeiling: dense ? shareOfCeiling(id, part) : null,
          },
          note: [figure.note, ...failures].filter(Boolean).join('; ') || undefined,
        };
      }),
  );
}

/** Rows of the real model's layers, and for each mechanism its worst error and median speed-up. */
export function realRows({ real }: Store, wanted: (part: string) => boolean): Row[] {
  const figures = Object.entries(real).flatMap(([id, part]) => (wanted(id) ? part.figures : []));
  const row = (figure: RealFigure): Row => ({
    id: `real-${figure.name}-layer${figure.layer}-n${REAL_LENGTH}`,
    metric: 'attention alone on long documents inside the model; peer: our dense attention',
    unit: 'ms',
    better: 'lower',
    ours: figure.ms,
    peers: { 'our dense': figure.ms * figure.timesDense },
    ratio: figure.timesDense,
    agrees: null,
    tolerance: null,
    details: { relativeL1: figure.relativeL1, cosine: figure.cosine, kept: figure.kept },
  });
  const known = new Set(variants().map(({ name }) => name));
  return realNames()
    .filter((name) => known.has(name))
    .flatMap((name) => {
      const own = figures.filter((figure) => figure.name === name);
      if (own.length === 0) return [];
      const summary: Row = {
        ...failedRow(`real-${name}-n${REAL_LENGTH}`, ''),
        metric: 'largest relative L1 of a layer; peer: median speed-up over our dense',
        ours: Math.max(...own.map(({ relativeL1 }) => relativeL1)),
        peers: { 'speed-up': median(own.map(({ timesDense }) => timesDense)) },
        note: undefined,
      };
      return [...own.map(row), summary];
    });
}
