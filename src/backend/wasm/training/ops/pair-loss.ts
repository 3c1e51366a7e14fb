import type {
  PairLossAttributes,
  PairLossGradientNode,
  PairLossNode,
} from '../../../../program/gradient/pair-loss.ts';
import { padHead } from '../../../../program/ops/linear.ts';
import type { Value } from '../../../../program/program.ts';
import { elements } from '../../../../tensor/codec.ts';
import type { Lowering, OpLowering } from '../../lowering.ts';
import { type PairLossVariant, pairLossKernel, pairLossScratch } from '../kernels/pair-loss.ts';
import { clearKernels, clearStep } from './clear.ts';

const variantOf = ({ compare, student, teacher }: PairLossAttributes): PairLossVariant => ({
  compare,
  student: { group: student.group, pitch: padHead(student.headSize) },
  teacher: { group: teacher.group, pitch: padHead(teacher.headSize) },
});

const keyOf = (kind: string, attributes: PairLossAttributes): string => {
  const { compare, student, teacher } = variantOf(attributes);
  return `${kind}:${compare}:${student.group}:${student.pitch}:${teacher.group}:${teacher.pitch}`;
};

function parse(text: string): PairLossVariant {
  const [compare, ...numbers] = text.split(':');
  const [group, pitch, teacherGroup, teacherPitch] = numbers.map(Number);
  return {
    compare: compare as PairLossVariant['compare'],
    student: { group, pitch },
    teacher: { group: teacherGroup, pitch: teacherPitch },
  };
}

const scratch = (
  { inputs, attributes }: { readonly inputs: readonly Value[]; readonly attributes: PairLossAttributes },
  shape: (value: Value) => readonly number[],
): number => pairLossScratch(shape(inputs[attributes.student.queries.input])[2], variantOf(attributes));

/** Fields that loss and gradient share. */
function fieldsOf(inputs: readonly Value[], attributes: PairLossAttributes, { at, shape }: Lowering) {
  const { student, teacher, lengths } = attributes;
  const [, B, N] = shape(inputs[student.queries.input]);
  const headBytes = (value: Value) =>
    shape(value)
      .slice(1)
      .reduce((a, b) => a * b, 4);
  const start = ({ input, from }: { input: number; from: number }) =>
    at(inputs[input]) + from * headBytes(inputs[input]);
  return {
    studentQ: start(student.queries),
    studentK: start(student.keys),
    studentHead: headBytes(inputs[student.queries.input]),
    teacherQ: start(teacher.queries),
    teacherK: start(teacher.keys),
    teacherHead: headBytes(inputs[teacher.queries.input]),
    studentScale: student.scale,
    teacherScale: teacher.scale,
    lengths: at(inputs[lengths]),
    B,
    N,
  };
}

export const pairLossLowering: OpLowering<PairLossNode> = {
  kind: 'pairLoss',
  kernels: { ...clearKernels, pairLoss: (variant) => pairLossKernel(parse(variant), false) },
  keys: ({ attributes }) => [keyOf('pairLoss', attributes), 'clearFlat'],
  scratchBytes: scratch,
  steps({ inputs, outputs: [rows, statistics], attributes }, lowering) {
    const { at, shape, step } = lowering;
    const fields = {
      ...fieldsOf(inputs, attributes, lowering),
      rows: at(rows),
      statistics: at(statistics),
      dQ: 0,
      dK: 0,
    };
    return [
      clearStep(lowering, at(rows), elements(shape(rows))),
      clearStep(lowering, at(statistics), elements(shape(statistics))),
      step(keyOf('pairLoss', attributes), fields, attributes.relations * fields.B, 1),
    ];
  },
};

export const pairLossGradientLowering: OpLowering<PairLossGradientNode> = {
  kind: 'pairLossGradient',
  kernels: { ...clearKernels, pairLossGradient: (variant) => pairLossKernel(parse(variant), true) },
  keys: ({ attributes }) => [keyOf('pairLossGradient', attributes), 'clearFlat'],
  scratchBytes: scratch,
  steps({ inputs, outputs, attributes }, lowering) {
    const { at, shape, step } = lowering;
    const { of, student } = attributes;
    const [statistics, dRows] = inputs.slice(-2);
    const offset = (input: number) => at(outputs[of.indexOf(input)]) - at(inputs[input]);
    const fields = {
      ...fieldsOf(inputs, attributes, lowering),
      rows: at(dRows),
      statistics: at(statistics),
      dQ: offset(student.queries.input),
      dK: offset(student.keys.input),
    };
    return [
      ...outputs.map((d) => clearStep(lowering, at(d), elements(shape(d)))),
      step(keyOf('pairLossGradient', attributes), fields, attributes.relations * fields.B, 1),
    ];
  },
};
