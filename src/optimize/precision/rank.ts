import type { Sensitivity, UnitSensitivity, WidthLoss } from './sensitivity.ts';

/** One weight in one width, as a line of a ranking. */
export interface RankedLoss extends WidthLoss {
  readonly weight: string;
  readonly role: UnitSensitivity['role'];
  readonly layer: number | null;
  /** Part of what all weights lose in this width, 0 to 1. */
  readonly share: number;
}

/** Weights by what the output loses when they alone are stored in a width, the largest loss first. */
export function rankLosses({ units }: Sensitivity, width: string): RankedLoss[] {
  const found = units.flatMap(({ weight, role, layer, widths }) =>
    widths.filter((loss) => loss.width === width).map((loss) => ({ weight, role, layer, ...loss })),
  );
  const sum = found.reduce((total, { output }) => total + output, 0);
  return found
    .map((loss) => ({ ...loss, share: sum > 0 ? loss.output / sum : 0 }))
    .sort((a, b) => b.output - a.output);
}

/** The width of about 4 bits that most weights were measured in, else the narrowest: what rankings go by. */
export function rankingWidth({ units }: Sensitivity): string {
  const counts = new Map<string, number>();
  for (const { widths } of units)
    for (const { width } of widths) counts.set(width, (counts.get(width) ?? 0) + 1);
  const names = [...counts.keys()];
  const four = names.filter((name) => name.startsWith('int4'));
  const among = four.length ? four : names.slice(-1);
  return among.reduce((a, b) => (counts.get(b)! > counts.get(a)! ? b : a), among[0]);
}
