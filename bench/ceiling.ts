export * from '../src/backend/wasm/ceiling.ts';
