import { formatWidth, parseWidth, type Width } from '../../compress/quantize/width.ts';
import { isFloat } from '../../tensor/codec.ts';
import type { AllocationUnit, Option } from './allocate.ts';
import type { Sensitivity, UnitSensitivity } from './sensitivity.ts';

/** What a weight in a width takes of each limited resource. */
export type CostOf = (unit: UnitSensitivity, width: Width) => readonly number[];

/** Which of the measured losses is summed. */
export type Objective = 'output' | 'similarity';

/** Widths of the weights of one stack. */
interface Choice extends Option {
  readonly widths: readonly (readonly [weight: string, width: string])[];
}

/** Weights to choose widths for, stacked ones together, and what each choice means. */
export interface Options {
  readonly units: readonly AllocationUnit[];
  /** The width of each weight, by an allocation's choice. */
  widthsOf(choice: readonly number[]): Map<string, string>;
}

/**
 * What allocation chooses from. Weights that are stacked in one product are all floats or all integers, and a product
 * of integers loses what its activations in 8 bits lose.
 * @param fixed widths by hand, the only ones that their weights have; what was not measured counts as lost nothing
 */
export function optionsOf(
  { units, activations }: Sensitivity,
  costOf: CostOf,
  objective: Objective = 'output',
  fixed: ReadonlyMap<string, Width> = new Map(),
): Options {
  const stacks = new Map<string, UnitSensitivity[]>();
  for (const unit of units) stacks.set(unit.stack, [...(stacks.get(unit.stack) ?? []), unit]);
  const choices = [...stacks].map(([name, stack]) => {
    const loss = activations.find((found) => found.stack === name)?.[objective] ?? 0;
    return { name, options: stackChoices(stack, costOf, objective, fixed, loss) };
  });
  return {
    units: choices,
    widthsOf: (choice) => new Map(choice.flatMap((option, at) => choices[at].options[option].widths)),
  };
}

function stackChoices(
  stack: readonly UnitSensitivity[],
  costOf: CostOf,
  objective: Objective,
  fixed: ReadonlyMap<string, Width>,
  activations: number,
): Choice[] {
  const of = (float: boolean): Choice[] => {
    const start: Choice = { costs: [], loss: float ? 0 : activations, widths: [] };
    return stack.reduce<Choice[]>(
      (before, unit) =>
        undominated(
          before.flatMap(({ costs, loss, widths }) =>
            unitChoices(unit, costOf, objective, fixed.get(unit.weight))
              .filter((choice) => choice.float === float)
              .map((choice) => ({
                costs: choice.costs.map((cost, i) => (costs[i] ?? 0) + cost),
                loss: loss + choice.loss,
                widths: [...widths, [unit.weight, choice.width] as const],
              })),
          ),
        ),
      [start],
    );
  };
  return undominated([...of(true), ...of(false)]);
}

function unitChoices(unit: UnitSensitivity, costOf: CostOf, objective: Objective, fixed: Width | undefined) {
  const choice = (width: Width, text: string, loss: number) => ({
    width: text,
    float: isFloat(width.codec),
    costs: costOf(unit, width),
    loss,
  });
  const lossOf = (found: UnitSensitivity['widths'][number]) => found[objective] ?? found.output;
  if (fixed) {
    const text = formatWidth(fixed);
    const known = unit.widths.find(({ width }) => width === text);
    return [choice(fixed, text, known ? lossOf(known) : 0)];
  }
  return unit.widths.map((found) => choice(parseWidth(found.width), found.width, lossOf(found)));
}

/** Drops choices that another one equals or beats in every cost and in loss; of equals, the first stays. */
function undominated(choices: readonly Choice[]): Choice[] {
  const beats = (a: Choice, b: Choice) => a.loss <= b.loss && a.costs.every((cost, i) => cost <= b.costs[i]);
  const kept: Choice[] = [];
  for (const choice of [...choices].sort((a, b) => a.loss - b.loss))
    if (!kept.some((better) => beats(better, choice))) kept.push(choice);
  return kept;
}
