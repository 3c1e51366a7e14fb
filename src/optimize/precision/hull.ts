/** One way of storing a unit, as one resource sees it. */
export interface Point {
  readonly cost: number;
  readonly loss: number;
}

/** One step down a unit's lower convex hull, from one of its options to another: `gain` less loss for `cost` more. */
export interface HullStep {
  readonly unit: number;
  readonly option: number;
  readonly cost: number;
  readonly gain: number;
}

/**
 * The linear relaxation of a choice among several units, for every amount of room at once: the steps of all their
 * lower convex hulls, the most gain for its cost first (Sinha and Zoltners 1979).
 */
export interface Hull {
  /** For each unit, the option that costs least. */
  readonly first: readonly number[];
  /** What those cost together, and what they lose. */
  readonly least: number;
  readonly worst: number;
  readonly steps: readonly HullStep[];
  /** Cost beyond `least`, and loss, after each step. */
  readonly reached: readonly Point[];
}

/** @param units the points of each unit's options */
export function hullOf(units: readonly (readonly Point[])[]): Hull {
  let [least, worst] = [0, 0];
  const steps: HullStep[] = [];
  const first = units.map((points, unit) => {
    const hull = lowerHull(points);
    least += points[hull[0]].cost;
    worst += points[hull[0]].loss;
    for (let i = 1; i < hull.length; i++) {
      const [from, to] = [points[hull[i - 1]], points[hull[i]]];
      steps.push({ unit, option: hull[i], cost: to.cost - from.cost, gain: from.loss - to.loss });
    }
    return hull[0];
  });
  // Steps of one unit are steeper the earlier they come, so that sorting keeps their order.
  steps.sort((a, b) => b.gain * a.cost - a.gain * b.cost || a.unit - b.unit);
  let [cost, loss] = [0, worst];
  const reached = steps.map((step) => ({ cost: (cost += step.cost), loss: (loss -= step.gain) }));
  return { first, least, worst, steps, reached };
}

/** Indices of the points on the lower convex hull, from the cheapest on, each dearer and with less loss than the one before. */
function lowerHull(points: readonly Point[]): number[] {
  const order = [...points.keys()].sort(
    (a, b) => points[a].cost - points[b].cost || points[a].loss - points[b].loss,
  );
  const hull: number[] = [];
  for (const index of order) {
    const point = points[index];
    if (hull.length && point.loss >= points[hull[hull.length - 1]].loss) continue;
    while (hull.length > 1) {
      const [a, b] = hull.slice(-2).map((i) => points[i]);
      // b lies below the line from a to the point.
      if ((a.loss - b.loss) * (point.cost - a.cost) > (a.loss - point.loss) * (b.cost - a.cost)) break;
      hull.pop();
    }
    hull.push(index);
  }
  return hull;
}

/** The least loss that the relaxation leaves possible within `room`: a lower bound of every choice's. */
export function boundOf({ least, worst, steps, reached }: Hull, room: number): number {
  const extra = room - least;
  if (extra <= 0) return worst;
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (reached[middle].cost <= extra) low = middle + 1;
    else high = middle;
  }
  const before = low === 0 ? { cost: 0, loss: worst } : reached[low - 1];
  if (low === steps.length) return before.loss;
  return before.loss - (steps[low].gain * (extra - before.cost)) / steps[low].cost;
}
