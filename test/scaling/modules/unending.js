process.stdout.write('x'.repeat(200_000));
await new Promise(() => setInterval(() => {}, 60_000));
