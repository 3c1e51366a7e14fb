/** A function's value, and its gradient written into `gradient`. */
export type Objective = (x: Float64Array, gradient: Float64Array) => number;

const MEMORY = 10;

const dot = (a: Float64Array, b: Float64Array): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};

/**
 * Minimises a smooth convex function (L-BFGS, Nocedal 1980, with a backtracking line search). Yields to the
 * event loop between iterations so that an abort is seen. Deterministic.
 */
export async function minimize(
  objective: Objective,
  start: Float64Array,
  options: { maxIterations?: number; tolerance?: number; signal?: AbortSignal } = {},
): Promise<{ x: Float64Array; value: number; iterations: number; converged: boolean }> {
  const { maxIterations = 200, tolerance = 1e-4, signal } = options;
  const n = start.length;
  let x = start.slice();
  let gradient = new Float64Array(n);
  let value = objective(x, gradient);
  const scale = Math.max(1, Math.sqrt(dot(gradient, gradient)));
  const history: { s: Float64Array; y: Float64Array; rho: number }[] = [];
  for (let iteration = 0; iteration < maxIterations; iteration++) {
    signal?.throwIfAborted();
    await new Promise((resolve) => setImmediate(resolve));
    if (Math.sqrt(dot(gradient, gradient)) <= tolerance * scale)
      return { x, value, iterations: iteration, converged: true };
    const direction = descend(gradient, history);
    const slope = dot(gradient, direction);
    let step = history.length === 0 ? 1 / Math.max(1, Math.sqrt(dot(gradient, gradient))) : 1;
    const nextX = new Float64Array(n);
    const nextGradient = new Float64Array(n);
    let nextValue = value;
    let found = false;
    for (let tries = 0; tries < 30 && !found; tries++, step /= 2) {
      for (let i = 0; i < n; i++) nextX[i] = x[i] + step * direction[i];
      nextValue = objective(nextX, nextGradient);
      found = nextValue <= value + 1e-4 * step * slope;
    }
    // No step improves the value: this is the minimum to the precision of float64.
    if (!found) return { x, value, iterations: iteration, converged: true };
    const s = nextX.map((v, i) => v - x[i]);
    const y = nextGradient.map((v, i) => v - gradient[i]);
    const sy = dot(s, y);
    if (sy > 1e-12 * dot(y, y)) {
      history.push({ s, y, rho: 1 / sy });
      if (history.length > MEMORY) history.shift();
    }
    [x, gradient, value] = [nextX, nextGradient, nextValue];
  }
  return { x, value, iterations: maxIterations, converged: false };
}

/** The two-loop recursion: minus the inverse Hessian's approximation times the gradient. */
function descend(
  gradient: Float64Array,
  history: readonly { s: Float64Array; y: Float64Array; rho: number }[],
): Float64Array {
  const q = gradient.map((g) => -g);
  const alphas: number[] = [];
  for (let h = history.length - 1; h >= 0; h--) {
    const { s, y, rho } = history[h];
    alphas[h] = rho * dot(s, q);
    for (let i = 0; i < q.length; i++) q[i] -= alphas[h] * y[i];
  }
  const last = history.at(-1);
  if (last) {
    const gamma = 1 / (last.rho * dot(last.y, last.y));
    for (let i = 0; i < q.length; i++) q[i] *= gamma;
  }
  for (let h = 0; h < history.length; h++) {
    const { s, y, rho } = history[h];
    const beta = rho * dot(y, q);
    for (let i = 0; i < q.length; i++) q[i] += s[i] * (alphas[h] - beta);
  }
  return q;
}
