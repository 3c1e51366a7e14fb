import type { Width } from '../../compress/quantize/width.ts';
import type { Model } from '../../model/config.ts';
import { byteSize, elements, isFloat } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { type Allocation, type AllocationUnit, allocate } from './allocate.ts';
import { artifactBytes, plannedPeak } from './footprint.ts';
import { type Objective, type Options, optionsOf } from './options.ts';
import type { Sensitivity, UnitSensitivity } from './sensitivity.ts';

/** What a mixture of widths must keep; at least one. */
export interface MixtureLimits {
  /** Of the artifact file. */
  readonly sizeBytes?: number;
  /** Planned peak of one text of `length` tokens, weights included. */
  readonly memoryBytes?: number;
  /** Of one text, by the times of single products. */
  readonly latencyMs?: number;
}

/** How long a model takes on this device, by the width of each weight. */
export interface LatencyModel {
  /** What no width changes. */
  readonly restMs: number;
  /** Null where this device has no kernel for it. */
  unitMs(unit: Pick<UnitSensitivity, 'shape' | 'product'>, width: Width): number | null;
}

export interface MixtureRequest {
  readonly sensitivity: Sensitivity;
  readonly limits: MixtureLimits;
  /** The model with weights in these widths, as it will be written. */
  build(widths: ReadonlyMap<string, string>): Promise<Model>;
  readonly objective?: Objective;
  /** Widths by hand. */
  readonly fixed?: ReadonlyMap<string, Width>;
  /** Tokens of the text that the peak is planned for. Default 128. */
  readonly length?: number;
  /** Needed for a limit of latency. */
  readonly latency?: LatencyModel;
}

export interface Mixture {
  /** The width of each weight that has a choice. */
  readonly widths: ReadonlyMap<string, string>;
  /** Sum of what the weights lose one by one: no choice within the limits has a smaller one where `exact`. */
  readonly loss: number;
  readonly exact: boolean;
  /** Of the artifact, exact. */
  readonly sizeBytes: number;
  /** Exact plan; null where nobody asked. */
  readonly peakBytes: number | null;
  /** Sum of the times of single products; null where nobody asked. */
  readonly latencyMs: number | null;
  readonly model: Model;
}

/** One limit as allocation sees it. */
interface Resource {
  readonly name: keyof MixtureLimits;
  readonly limit: number;
  /** What a weight in a width takes of it; null where it cannot be had. */
  costOf(unit: UnitSensitivity, width: Width): number | null;
  /** What a built model takes of it, whose weights' costs come to `cost`. */
  measure(built: Model, cost: number): number | Promise<number>;
}

/** The room for weights is put right so often: headers change a little with the widths that they name. */
const ROUNDS = 8;

/**
 * The widths that lose least within limits, by dynamic programming over what each weight was measured to lose alone.
 * Sizes and peaks are those of the model as it is built, to the byte.
 * @throws `MIXTURE_LIMITS` without a limit, `MIXTURE_INFEASIBLE` with the least that can be had
 */
export async function chooseMixture(request: MixtureRequest): Promise<Mixture> {
  const resources = resourcesOf(request);
  const solver = new Solver(request, resources);
  const rooms = resources.map(({ limit }) => limit);
  for (let round = 0; round < ROUNDS; round++) {
    const mixture = await solver.solve(rooms);
    if (!mixture) break;
    const over = mixture.taken.map((value, i) => value - resources[i].limit);
    if (over.every((excess) => excess <= 0)) return mixture;
    // What stands beside the weights is known once a model is built.
    for (const [i, excess] of over.entries()) if (excess > 0) rooms[i] = mixture.costs[i] - excess;
  }
  // Where the room was put right by a few bytes too many, the cheapest mixture may still keep every limit.
  const cheapest = await Promise.all(resources.map((_, i) => solver.cheapest(i)));
  const kept = cheapest
    .filter(({ taken }) => taken.every((value, i) => value <= resources[i].limit))
    .sort((a, b) => a.loss - b.loss);
  if (kept.length > 0) return { ...kept[0], exact: false };
  throw infeasible(
    resources,
    cheapest.map(({ taken }, i) => taken[i]),
  );
}

/** A mixture, with what it takes of each resource: its weights alone, and as a whole. */
interface Solved extends Mixture {
  readonly costs: readonly number[];
  readonly taken: readonly number[];
}

class Solver {
  private readonly request: MixtureRequest;
  private readonly resources: readonly Resource[];
  private readonly options: Options;
  /** Choices that this device has, by the index that `options` knows them under. */
  private readonly open: readonly (readonly number[])[];
  private readonly units: readonly AllocationUnit[];

  constructor(request: MixtureRequest, resources: readonly Resource[]) {
    const { sensitivity, objective, fixed } = request;
    this.request = request;
    this.resources = resources;
    const costOf = (unit: UnitSensitivity, width: Width) =>
      resources.map((resource) => resource.costOf(unit, width) ?? Infinity);
    this.options = optionsOf(sensitivity, costOf, objective, fixed);
    this.open = this.options.units.map(({ options }) =>
      [...options.keys()].filter((at) => options[at].costs.every(Number.isFinite)),
    );
    this.units = this.options.units.map(({ name, options }, u) => ({
      name,
      options: this.open[u].map((at) => options[at]),
    }));
  }

  /** The best mixture whose weights keep these limits; null where there is none. */
  async solve(limits: readonly number[]): Promise<Solved | null> {
    let found: Allocation;
    try {
      found = allocate(this.units, limits);
    } catch (error) {
      if (error instanceof AttenuateError && error.code === 'ALLOCATION_INFEASIBLE') return null;
      throw error;
    }
    const widths = this.options.widthsOf(found.choice.map((at, u) => this.open[u][at]));
    const model = await this.request.build(widths);
    const taken = await Promise.all(this.resources.map((r, i) => r.measure(model, found.costs[i])));
    const of = (name: keyof MixtureLimits) => taken[this.resources.findIndex((r) => r.name === name)] ?? null;
    return {
      ...{ widths, loss: found.loss, exact: found.exact, costs: found.costs, taken, model },
      sizeBytes: artifactBytes(model),
      peakBytes: of('memoryBytes'),
      latencyMs: of('latencyMs'),
    };
  }

  /** The mixture that takes least of one resource, whatever it takes of the others. */
  async cheapest(resource: number): Promise<Solved> {
    const sum = this.units.reduce(
      (total, { options }) => total + Math.min(...options.map(({ costs }) => costs[resource])),
      0,
    );
    // A sum in another order may end in another bit.
    const limits = this.resources.map((_, i) => (i === resource ? sum * (1 + 1e-9) : Infinity));
    return (await this.solve(limits))!;
  }
}

function resourcesOf({ limits, length = 128, latency }: MixtureRequest): Resource[] {
  const all: Record<keyof MixtureLimits, Omit<Resource, 'name' | 'limit'>> = {
    sizeBytes: {
      costOf: ({ shape }, width) => byteSize({ ...width, shape }),
      measure: (built) => artifactBytes(built),
    },
    memoryBytes: {
      // Products of floats are held as float32.
      costOf: ({ shape, product }, width) =>
        product && isFloat(width.codec) ? elements(shape) * 4 : byteSize({ ...width, shape }),
      measure: (built) => plannedPeak(built, length),
    },
    latencyMs: {
      costOf: (unit, width) => latency?.unitMs(unit, width) ?? null,
      measure: (_, cost) => (latency?.restMs ?? 0) + cost,
    },
  };
  const resources = (Object.keys(all) as (keyof MixtureLimits)[]).flatMap((name) => {
    const limit = limits[name];
    return limit === undefined ? [] : [{ name, limit, ...all[name] }];
  });
  if (resources.length === 0)
    throw new AttenuateError(
      'MIXTURE_LIMITS',
      '[mixture] nothing to keep: expected a limit of size, memory or latency, got none. Give at least one.',
    );
  return resources;
}

function infeasible(resources: readonly Resource[], leasts: readonly number[]): AttenuateError {
  const least = Object.fromEntries(resources.map(({ name }, i) => [name, leasts[i]]));
  const limits = Object.fromEntries(resources.map(({ name, limit }) => [name, limit]));
  const words = (values: Readonly<Record<string, number>>) =>
    Object.entries(values)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ');
  return new AttenuateError(
    'MIXTURE_INFEASIBLE',
    `[mixture] limits that no mixture keeps: expected at least ${words(least)}, got ${words(limits)}. Raise the limit, or allow narrower widths.`,
    { least, limits },
  );
}
