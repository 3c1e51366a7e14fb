import { cosine } from '../metrics.ts';

/** How far outputs have moved from the float model's, on the same texts. */
export interface Distance {
  /** Σ‖y − y₀‖² / Σ‖y₀‖². */
  readonly output: number;
  /** Mean squared change of the cosine of each two texts, as a share of the cosines' variance; null for fewer than three texts. */
  readonly similarity: number | null;
}

type Rows = readonly ArrayLike<number>[];

/** Texts whose cosines with one another are taken: all pairs of them. */
const MOST_TEXTS = 512;

/** The distance of output rows from those of the float model. */
export class Reference {
  private readonly rows: Rows;
  private readonly cosines: Float64Array;
  private readonly variance: number;

  constructor(rows: Rows) {
    this.rows = rows;
    this.cosines = cosines(rows);
    const { length } = this.cosines;
    const mean = this.cosines.reduce((sum, c) => sum + c, 0) / length;
    this.variance = this.cosines.reduce((sum, c) => sum + (c - mean) ** 2, 0) / length;
  }

  distance(rows: Rows): Distance {
    let [moved, size] = [0, 0];
    this.rows.forEach((row, i) => {
      for (let c = 0; c < row.length; c++) {
        moved += (rows[i][c] - row[c]) ** 2;
        size += row[c] ** 2;
      }
    });
    const now = cosines(rows);
    const change = now.reduce((sum, c, i) => sum + (c - this.cosines[i]) ** 2, 0) / now.length;
    return {
      output: size > 0 ? moved / size : 0,
      similarity: now.length >= 3 && this.variance > 0 ? change / this.variance : null,
    };
  }
}

/** Of each two texts, the first ones where there are many. */
function cosines(rows: Rows): Float64Array {
  const n = Math.min(rows.length, MOST_TEXTS);
  const out = new Float64Array((n * (n - 1)) / 2);
  for (let i = 0, at = 0; i < n; i++) for (let j = 0; j < i; j++, at++) out[at] = cosine(rows[i], rows[j]);
  return out;
}
