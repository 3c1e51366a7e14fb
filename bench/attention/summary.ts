import type { Row } from '../report.ts';
import { variants } from './cases.ts';
import { sizesOf } from './report-rows.ts';
import type { Figure, Store } from './store.ts';

/** One contender at one head size, over the lengths that it has a time at. */
interface Curve {
  readonly id: string;
  readonly name: string;
  readonly D: number;
  readonly points: readonly { readonly n: number; readonly figure: Figure & { ms: number } }[];
}

/** Curves of all mechanisms, in the order of the benchmark. */
function curvesOf({ settings }: Store): Curve[] {
  const sizes = [...new Set(Object.keys(settings).map((id) => sizesOf(id).D))].sort((a, b) => a - b);
  return sizes.flatMap((D) =>
    variants().map(({ name }) => ({
      id: `${name}-d${D}`,
      name,
      D,
      points: Object.entries(settings)
        .flatMap(([id, { figures }]) => {
          const figure = figures.find((known) => known.name === name);
          const size = sizesOf(id);
          return size.D === D && figure && figure.ms !== null
            ? [{ n: size.n, figure: figure as Figure & { ms: number } }]
            : [];
        })
        .sort((a, b) => a.n - b.n),
    })),
  );
}

const row = (id: string, metric: string, ours: number | null, more: Partial<Row>): Row => ({
  id,
  metric,
  unit: '',
  better: 'lower',
  ours,
  peers: {},
  ratio: null,
  agrees: null,
  tolerance: null,
  ...more,
});

const LINEAR_LIMIT = 0.1;
const BOUND_TO_BE_LINEAR = /^(local|performer|relu-linear|cosformer|hedgehog|linformer|fast-weights)$/;

/** How far time per token strays over the lengths from 2048 on, for what claims to be linear. */
function linearity(curves: readonly Curve[]): Row[] {
  const growth = new Map(variants().map(({ name, mechanism }) => [name, mechanism.growth.time]));
  return curves.flatMap(({ id, name, points }) => {
    const perToken = points.filter(({ n }) => n >= 2048).map(({ n, figure }) => figure.ms / n);
    if (/n²/.test(growth.get(name)!) || perToken.length < 2) return [];
    const spread = Math.max(...perToken) / Math.min(...perToken) - 1;
    const bound = BOUND_TO_BE_LINEAR.test(name);
    const last = points.at(-1)!.n;
    return [
      row(`linear-${id}`, `largest ÷ smallest time per token, less 1, n from 2048 to ${last}`, spread, {
        agrees: bound ? spread <= LINEAR_LIMIT : null,
        tolerance: bound ? `≤ ${LINEAR_LIMIT}` : null,
      }),
    ];
  });
}

export interface Crossover {
  readonly name: string;
  readonly D: number;
  /** Length from which it is faster than dense attention; null where it never is. */
  readonly length: number | null;
  /** Whether it is so at the shortest length already. */
  readonly always: boolean;
  /** Times faster than dense, by length. */
  readonly advantage: readonly { readonly n: number; readonly times: number }[];
}

/** The length from which a mechanism is faster than dense attention and stays so, between lengths on a log scale. */
export function crossovers(store: Store): Crossover[] {
  const curves = curvesOf(store);
  return curves.flatMap(({ name, D, points }) => {
    const dense = curves.find((curve) => curve.name === 'dense' && curve.D === D)!;
    if (name === 'dense') return [];
    const advantage = points.flatMap(({ n, figure }) => {
      const at = dense.points.find((point) => point.n === n);
      return at ? [{ n, times: at.figure.ms / figure.ms }] : [];
    });
    if (advantage.length < 2) return [];
    const slower = advantage.findLastIndex(({ times }) => times <= 1);
    let length: number | null = null;
    if (slower < 0) length = advantage[0].n;
    else if (slower < advantage.length - 1) {
      const [a, b] = [advantage[slower], advantage[slower + 1]];
      const t = -Math.log(a.times) / Math.log(b.times / a.times);
      length = Math.round(Math.exp(Math.log(a.n) + t * Math.log(b.n / a.n)));
    }
    return [{ name, D, length, always: slower < 0, advantage }];
  });
}

function crossoverRows(store: Store): Row[] {
  return crossovers(store).map(({ name, D, length, always, advantage }) => {
    const times = advantage.map((point) => `n=${point.n}: ${point.times.toFixed(2)}×`).join(', ');
    const when = length === null ? 'never faster: ' : always ? 'at the shortest already: ' : '';
    // Never faster is a finding, not a failure: the length is then without end.
    return row(`crossover-${name}-d${D}`, 'length from which it is faster than dense', length ?? Infinity, {
      unit: 'tokens',
      note: `${when}${times}`,
    });
  });
}

const KEPT_LIMIT = 0.1;
const KEPT_AT = 4096;

/** Time per kept block of the block-sparse rows and of dense attention, at the same length. */
function constancy(curves: readonly Curve[]): Row[] {
  const sizes = [...new Set(curves.map(({ D }) => D))];
  return sizes.flatMap((D) => {
    const perBlock = curves.flatMap((curve) => {
      const figure = curve.points.find(({ n }) => n === KEPT_AT)?.figure;
      return curve.D === D && /^(block-sparse.*|dense)$/.test(curve.name) && figure?.keptBlocks
        ? [
            {
              name: curve.name,
              us: (figure.ms * 1000) / figure.keptBlocks,
            },
          ]
        : [];
    });
    if (perBlock.length < 2) return [];
    const times = perBlock.map((p) => p.us);
    const spread = Math.max(...times) / Math.min(...times) - 1;
    return [
      row(
        `kept-block-d${D}-n${KEPT_AT}`,
        'largest ÷ smallest time per kept block, less 1, 5 % density to dense',
        spread,
        {
          agrees: spread <= KEPT_LIMIT,
          tolerance: `≤ ${KEPT_LIMIT}`,
          note: perBlock.map((p) => `${p.name} ${p.us.toFixed(2)} µs`).join(', '),
        },
      ),
    ];
  });
}

export function summaryRows(store: Store): Row[] {
  const curves = curvesOf(store);
  return [...linearity(curves), ...constancy(curves), ...crossoverRows(store)];
}
