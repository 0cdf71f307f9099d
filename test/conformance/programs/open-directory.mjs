import { millrace } from './product.mjs';

// Says how opening a directory ended: `open`, or the code of the refusal.
const [directory] = process.argv.slice(2);
try {
  const client = await millrace.connect(`file:${directory}`);
  process.stdout.write('open\n');
  await client.close();
} catch (error) {
  process.stdout.write(`${error instanceof millrace.MillraceError ? `${error.code}: ${error.message}` : error}\n`);
}
