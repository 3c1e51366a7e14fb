import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { TEST_RESULTS } from './scripts/closing-line.ts';

export default defineConfig({
  test: {
    include: ['{src,test,scripts,examples,bench}/**/*.test.ts'],
    exclude: ['**/node_modules/**', 'dist/**'],
    // By default one core is left idle, which is half of a small machine.
    maxWorkers: availableParallelism(),
    testTimeout: 30_000,
    hookTimeout: 120_000,
    reporters: ['default', ['json', { outputFile: TEST_RESULTS }]],
  },
});
