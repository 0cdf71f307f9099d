#!/usr/bin/env node
import { redact } from '../errors.ts';
import { tolerateBrokenPipe } from './output.ts';
import { run } from './run.ts';

/** All users of a machine see its processes: a password that stands in a URL there goes as soon as it can. */
function hidePasswords(args: readonly string[]): void {
  const shown = args.map(redact);
  if (shown.some((arg, index) => arg !== args[index])) process.title = ['millrace', ...shown].join(' ');
}

hidePasswords(process.argv.slice(2));
tolerateBrokenPipe();
process.exitCode = await run(process.argv.slice(2));
