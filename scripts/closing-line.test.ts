import { expect, it } from 'vitest';
import { closingLine } from './closing-line.ts';

it('counts tests, and a file that broke before its first test as a failure', () => {
  const counts = { numPassedTests: 7, numFailedTests: 1, numPendingTests: 0 };
  expect(closingLine({ ...counts, testResults: [] })).toBe('7 passed, 1 failed');
  const broken = { status: 'failed', assertionResults: [] };
  expect(closingLine({ ...counts, numPendingTests: 2, testResults: [broken] })).toBe(
    '7 passed, 2 failed, 2 skipped',
  );
});
