import { AttenuateError } from '../../tensor/error.ts';
import { boundOf, type Hull, hullOf } from './hull.ts';

/** One way of storing one unit: what it takes of each limited resource, and what it loses. */
export interface Option {
  readonly costs: readonly number[];
  readonly loss: number;
}

/** Something whose precision is chosen once: a matrix, a table, a stacked product. */
export interface AllocationUnit {
  readonly name: string;
  readonly options: readonly Option[];
}

export interface Allocation {
  /** For each unit, the index of its option. */
  readonly choice: readonly number[];
  readonly loss: number;
  readonly costs: readonly number[];
  /**
   * True where no choice within the limits loses less. Always so with one limit; with several, unless more than
   * `maxStates` partial choices had to be kept at once.
   */
  readonly exact: boolean;
}

interface State {
  readonly costs: readonly number[];
  readonly loss: number;
  readonly option: number;
  readonly before: State | null;
}

/** What a limit, or a weighted sum of several, leaves possible: hulls of the units from each one on. */
interface View {
  costOf(costs: readonly number[]): number;
  readonly limit: number;
  readonly tails: readonly Hull[];
}

/** Partial choices kept at once under several limits: each is compared with each. */
const MAX_STATES = 4000;

/**
 * The choice of one option for each unit with the smallest sum of losses whose sums of costs keep every limit: the
 * multiple-choice knapsack problem, by dynamic programming over lists of undominated partial choices (Kellerer,
 * Pferschy, Pisinger, *Knapsack Problems*, 2004, chapter 11). A partial choice also falls out where the linear
 * relaxation of what is left shows that it can no longer beat a choice that is known.
 * @param limits one for each cost; an infinite one does not bind
 * @throws `ALLOCATION_EMPTY` for a unit without an option, `ALLOCATION_NUMBER` for a cost or loss that is no number ≥ 0,
 * `ALLOCATION_INFEASIBLE` with the least that each resource takes
 */
export function allocate(
  units: readonly AllocationUnit[],
  limits: readonly number[],
  { maxStates = MAX_STATES }: { readonly maxStates?: number } = {},
): Allocation {
  check(units, limits);
  const binding = limits.flatMap((limit, i) => (limit < Infinity ? [i] : []));
  const views = viewsOf(units, limits, binding);
  const least = limits.map((_, i) =>
    units.reduce((sum, { options }) => sum + Math.min(...options.map(({ costs }) => costs[i])), 0),
  );
  if (views.some(({ tails, limit }) => tails[0].least > limit)) throw infeasible(least, limits);
  // Sums in another order differ in their last bits: what ties with the known choice has to stay.
  const slack = 1e-12 * units.reduce((sum, { options }) => sum + Math.max(...options.map((o) => o.loss)), 0);
  const known = Math.min(...views.map((view) => greedy(units, view.tails[0], limits))) * (1 + 1e-9) + slack;
  const bound = ({ costs, loss }: State, from: number): number =>
    views.reduce(
      (most, { costOf, limit, tails }) => Math.max(most, loss + boundOf(tails[from], limit - costOf(costs))),
      loss,
    );
  const fits = ({ costs }: State, from: number): boolean =>
    views.every(({ costOf, limit, tails }) => costOf(costs) + tails[from].least <= limit * (1 + 1e-12));
  let states: State[] = [{ costs: limits.map(() => 0), loss: 0, option: -1, before: null }];
  let exact = true;
  units.forEach(({ options }, at) => {
    const next = states.flatMap((before) =>
      options.map(({ costs, loss }, option) => ({
        costs: before.costs.map((cost, i) => cost + costs[i]),
        loss: before.loss + loss,
        option,
        before,
      })),
    );
    const alive = next.filter((state) => fits(state, at + 1) && bound(state, at + 1) <= known);
    states = undominated(alive, binding);
    if (binding.length < 2 || states.length <= maxStates) return;
    exact = false;
    const ranked = states.map((state) => ({ state, bound: bound(state, at + 1) }));
    states = ranked
      .sort((a, b) => a.bound - b.bound)
      .slice(0, maxStates)
      .map(({ state }) => state);
  });
  const best = states
    .filter(({ costs }) => binding.every((i) => costs[i] <= limits[i]))
    .reduce<State | null>((a, b) => (a === null || b.loss < a.loss ? b : a), null);
  if (!best) throw infeasible(least, limits);
  return { choice: choiceOf(best), loss: best.loss, costs: best.costs, exact };
}

/** Each binding limit, and where there are several, their even sum too: a choice that keeps all of them keeps that. */
function viewsOf(
  units: readonly AllocationUnit[],
  limits: readonly number[],
  binding: readonly number[],
): View[] {
  const view = (limit: number, costOf: View['costOf']): View => {
    const points = units.map(({ options }) =>
      options.map(({ costs, loss }) => ({ cost: costOf(costs), loss })),
    );
    return {
      costOf,
      limit,
      tails: [...points.keys(), points.length].map((from) => hullOf(points.slice(from))),
    };
  };
  const single = binding.map((i) => view(limits[i], (costs) => costs[i]));
  // Without a limit, the sum of nothing is the view that takes every unit's least loss.
  if (binding.length === 1) return single;
  const share = (costs: readonly number[]) =>
    binding.reduce((sum, i) => sum + (limits[i] > 0 ? costs[i] / limits[i] : 0), 0);
  return [...single, view(binding.filter((i) => limits[i] > 0).length, share)];
}

/** Loss of a choice that keeps every limit, found along a hull; infinite where its cheapest choice does not. */
function greedy(units: readonly AllocationUnit[], hull: Hull, limits: readonly number[]): number {
  const choice = [...hull.first];
  const costs = limits.map((_, i) =>
    choice.reduce((sum, option, u) => sum + units[u].options[option].costs[i], 0),
  );
  const keeps = (sums: readonly number[]) => sums.every((sum, i) => sum <= limits[i]);
  if (!keeps(costs)) return Infinity;
  for (const { unit, option } of hull.steps) {
    const [from, to] = [units[unit].options[choice[unit]], units[unit].options[option]];
    const after = costs.map((sum, i) => sum - from.costs[i] + to.costs[i]);
    if (to.loss >= from.loss || !keeps(after)) continue;
    choice[unit] = option;
    costs.splice(0, costs.length, ...after);
  }
  return choice.reduce((sum, option, u) => sum + units[u].options[option].loss, 0);
}

/** Drops partial choices that another one equals or beats in each binding cost and in loss. */
function undominated(states: readonly State[], binding: readonly number[]): State[] {
  if (binding.length === 0) return states.length ? [states.reduce((a, b) => (b.loss < a.loss ? b : a))] : [];
  const [first, ...others] = binding;
  const sorted = [...states].sort((a, b) => a.costs[first] - b.costs[first] || a.loss - b.loss);
  const kept: State[] = [];
  let least = Infinity;
  for (const state of sorted) {
    const beaten = others.length
      ? kept.some((k) => k.loss <= state.loss && others.every((i) => k.costs[i] <= state.costs[i]))
      : least <= state.loss;
    if (beaten) continue;
    least = state.loss;
    kept.push(state);
  }
  return kept;
}

function choiceOf(last: State): number[] {
  const choice: number[] = [];
  for (let state = last; state.before; state = state.before) choice.push(state.option);
  return choice.reverse();
}

function check(units: readonly AllocationUnit[], limits: readonly number[]): void {
  const good = (x: number) => x >= 0 && x < Infinity;
  for (const { name, options } of units) {
    if (options.length === 0)
      throw new AttenuateError(
        'ALLOCATION_EMPTY',
        `[allocate] nothing to choose for ${name}: expected at least one option, got none. Allow a width that it can be stored in.`,
        { unit: name },
      );
    for (const { costs, loss } of options)
      if (costs.length !== limits.length || !costs.every(good) || !good(loss))
        throw new AttenuateError(
          'ALLOCATION_NUMBER',
          `[allocate] bad option of ${name}: expected ${limits.length} costs and a loss, all finite and none negative, got ${JSON.stringify({ costs, loss })}. Measure it again.`,
          { unit: name, costs, loss },
        );
  }
}

const infeasible = (least: readonly number[], limits: readonly number[]): AttenuateError =>
  new AttenuateError(
    'ALLOCATION_INFEASIBLE',
    `[allocate] limits that no choice keeps: expected at least ${least.join(', ')}, got ${limits.join(', ')}. Raise the limit or allow narrower widths.`,
    { least, limits },
  );
