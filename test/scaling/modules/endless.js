console.log('loading');
await new Promise(() => setInterval(() => {}, 60_000));
