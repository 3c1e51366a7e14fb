import type { Row } from '../report.ts';
import { HEAD_SIZES, type Timed } from './rows.ts';

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

const times = (timed: readonly Timed[], id: string): { n: number; ms: number }[] =>
  timed.flatMap(({ case: made, n, row: { ours } }) =>
    made.id === id && ours !== null ? [{ n, ms: ours }] : [],
  );

const LINEAR_LIMIT = 0.1;

/** How far time per token strays over the lengths from 2048 on, for what claims to be linear. */
function linearity(timed: readonly Timed[]): Row[] {
  const ids = [
    ...new Set(timed.filter(({ case: c }) => !/n²/.test(c.mechanism.growth.time)).map(({ case: c }) => c.id)),
  ];
  return ids.flatMap((id) => {
    const perToken = times(timed, id)
      .filter(({ n }) => n >= 2048)
      .map(({ n, ms }) => ms / n);
    if (perToken.length < 2) return [];
    const spread = Math.max(...perToken) / Math.min(...perToken) - 1;
    const bound = /^(local|performer|relu-linear|cosformer|hedgehog|linformer|fast-weights)-d/.test(id);
    return [
      row(`linear-${id}`, 'largest ÷ smallest time per token, less 1, n from 2048 to 16,384', spread, {
        agrees: bound ? spread <= LINEAR_LIMIT : null,
        tolerance: bound ? `≤ ${LINEAR_LIMIT}` : null,
      }),
    ];
  });
}

/** The length from which a mechanism is faster than dense attention, between measured lengths on a log scale. */
function crossovers(timed: readonly Timed[]): Row[] {
  return HEAD_SIZES.flatMap((D) => {
    const dense = times(timed, `dense-d${D}`);
    const ids = [...new Set(timed.map(({ case: c }) => c.id))].filter(
      (id) => id.endsWith(`-d${D}`) && !id.startsWith('dense-d'),
    );
    return ids.flatMap((id) => {
      const own = times(timed, id);
      const advantage = dense.flatMap(({ n, ms }) => {
        const at = own.find((o) => o.n === n);
        return at ? [{ n, log: Math.log(ms / at.ms) }] : [];
      });
      if (advantage.length < 2) return [];
      const note = advantage.map(({ n, log }) => `n=${n}: ${Math.exp(log).toFixed(2)}×`).join(', ');
      const after = advantage.findIndex(({ log }) => log > 0);
      let length: number | null = null;
      if (after === 0) length = advantage[0].n;
      else if (after > 0) {
        const [a, b] = [advantage[after - 1], advantage[after]];
        const t = -a.log / (b.log - a.log);
        length = Math.round(Math.exp(Math.log(a.n) + t * Math.log(b.n / a.n)));
      }
      return [
        row(`crossover-${id}`, 'length from which it is faster than dense', length, {
          unit: 'tokens',
          note:
            length === null
              ? `never faster: ${note}`
              : `${after === 0 ? 'at the shortest already: ' : ''}${note}`,
        }),
      ];
    });
  });
}

const KEPT_LIMIT = 0.1;

/** Time per kept block of the block-sparse rows and of dense attention, at the same length. */
function constancy(timed: readonly Timed[], keptBlocks: (timed: Timed) => number | null): Row[] {
  return HEAD_SIZES.map((D) => {
    const at = timed.filter(
      ({ case: c, n, row: r }) =>
        n === 4096 && r.ours !== null && c.headSize === D && /^(block-sparse|dense-d)/.test(c.id),
    );
    const perBlock = at.flatMap((one) => {
      const kept = keptBlocks(one);
      return kept ? [{ id: one.case.id, us: (one.row.ours! * 1000) / kept }] : [];
    });
    const us = perBlock.map((p) => p.us);
    const spread = us.length ? Math.max(...us) / Math.min(...us) - 1 : null;
    return row(
      `kept-block-d${D}-n4096`,
      'largest ÷ smallest time per kept block, less 1, 5 % density to dense',
      spread,
      {
        agrees: spread === null ? null : spread <= KEPT_LIMIT,
        tolerance: `≤ ${KEPT_LIMIT}`,
        note: perBlock.map((p) => `${p.id} ${p.us.toFixed(1)} µs`).join(', '),
      },
    );
  });
}

export const summaries = (timed: readonly Timed[], keptBlocks: (timed: Timed) => number | null): Row[] => [
  ...linearity(timed),
  ...constancy(timed, keptBlocks),
  ...crossovers(timed),
];
