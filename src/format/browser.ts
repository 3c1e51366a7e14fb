export { type Artifact, openArtifact } from './artifact.ts';
export { encodeArtifact } from './artifact-layout.ts';
export { type ByteSource, bytesSource, responseSource, urlSource } from './byte-source.ts';
export { memoryStore } from './memory-store.ts';
export type { Probe, ProbeSample } from './probe.ts';
export {
  readSafetensorsHeader,
  type SafetensorsHeader,
  type SafetensorsType,
  type TensorDeclaration,
  type TensorEntry,
  writeSafetensors,
} from './safetensors.ts';
export { createTokenizer, type EncodedText, type Tokenizer } from './tokenizer.ts';
