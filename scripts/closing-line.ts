import { readFileSync } from 'node:fs';

export const TEST_RESULTS = 'out/tests.json';

interface Results {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly unknown[] }[];
}

/** Vitest's JSON as one plain line. A file that broke before its first test counts as one failure. */
export function closingLine(results: Results): string {
  const broken = results.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  const failed = results.numFailedTests + broken.length;
  const skipped = results.numPendingTests > 0 ? `, ${results.numPendingTests} skipped` : '';
  return `${results.numPassedTests} passed, ${failed} failed${skipped}`;
}

if (process.argv[1] === import.meta.filename)
  console.log(closingLine(JSON.parse(readFileSync(TEST_RESULTS, 'utf8'))));
