export { checkSpec } from './codec/check.ts';
export { type Codes, codesOf, decode, intsOf } from './codec/decode.ts';
export { encode, encodeCodes, encodeInt32 } from './codec/encode.ts';
export {
  byteSize,
  type CodeFormat,
  codeFormat,
  rowBytesOf,
  type Section,
  sections,
} from './codec/layout.ts';
export { pack, unpack } from './codec/pack.ts';
export {
  type EncodeOptions,
  type GroupQuantization,
  nearestCode,
  quantizeGroup,
  storedScale,
} from './codec/scale.ts';
export {
  CODECS,
  type Codec,
  columnsOf,
  elements,
  formatSpec,
  GROUP_SIZES,
  groupSizeOf,
  isAffine,
  isFloat,
  isPlain,
  optionsFit,
  rowsOf,
  scaleTypeOf,
  specOf,
  type Weight,
  type WeightSpec,
} from './codec/spec.ts';
