import { AttenuateError } from '../error.ts';
import { columnsOf, formatSpec, GROUP_SIZES, optionsFit, type WeightSpec } from './spec.ts';

/** @throws `CODEC_SPEC` for options that the codec does not have, `GROUP_SIZE` for groups that do not divide the columns */
export function checkSpec(spec: WeightSpec): void {
  const { codec, shape, groupSize } = spec;
  const refused = (['scheme', 'perTensor', 'groupSize', 'scaleType'] as const).find(
    (option) => !optionsFit({ codec, shape, [option]: spec[option] }),
  );
  if (refused === 'groupSize' && optionsFit({ codec, shape: [32], groupSize: 32 }))
    throw new AttenuateError(
      'GROUP_SIZE',
      `[codec] groups that do not fit: expected ${GROUP_SIZES.join(', ')} that divides ${columnsOf(shape)} columns, got ${groupSize}. Choose such a size, or none for whole rows.`,
      { groupSize, columns: columnsOf(shape) },
    );
  if (refused)
    throw new AttenuateError(
      'CODEC_SPEC',
      `[codec] ${codec} with ${refused}: expected a codec that has it, got ${formatSpec(spec)}. Leave ${refused} out or choose another codec.`,
      { codec, option: refused },
    );
}
