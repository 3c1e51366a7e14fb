/** A number and where it came from: every figure that this project shows carries its provenance. */
export type Figure =
  | {
      readonly value: number;
      readonly unit: string;
      readonly provenance: 'measured';
      readonly instrument: string;
    }
  | {
      readonly value: number;
      readonly unit: string;
      readonly provenance: 'estimated';
      /** The model behind the estimate, by name. */
      readonly model: string;
      readonly range: readonly [low: number, high: number];
    }
  | {
      readonly value: null;
      readonly unit: string;
      readonly provenance: 'unavailable';
      readonly reason: string;
    };

export const unavailable = (unit: string, reason: string): Figure => ({
  value: null,
  unit,
  provenance: 'unavailable',
  reason,
});
