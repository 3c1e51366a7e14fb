export * from './browser.ts';
export { type WriteOptions, type WrittenArtifact, writeArtifact } from './node/artifact-writer.ts';
export { fileSource } from './node/file-source.ts';
export { openHuggingFace } from './node/huggingface.ts';
export { openModel } from './node/open.ts';
export { openUniversalSentenceEncoder } from './node/universal-sentence-encoder.ts';
