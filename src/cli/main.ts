#!/usr/bin/env node
import { runCli } from './cli.ts';
import { underInterrupt } from './interrupt.ts';

// A reader that has seen enough, such as head, is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await underInterrupt((signal) => runCli(process.argv.slice(2), process, signal));
