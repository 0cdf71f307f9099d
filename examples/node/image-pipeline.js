import { connect } from 'millrace';

// In memory, so that it runs by itself. With tcp://127.0.0.1:5555 the handlers may run on any number of machines.
const client = await connect(process.env.MILLRACE_URL ?? 'memory:');

const worker = await client.work({
  'image.fetch': ({ url }) => ({ url, pixels: 4000 }),
  'image.resize': async ({ width }, ctx) => {
    const [{ result: image }] = await ctx.parents();
    return `${image.url} at ${width} of ${image.pixels} px`;
  },
  'album.publish': async ({ title }, ctx) => {
    const parents = await ctx.parents();
    return { title, images: parents.map(({ result }) => result) };
  },
});

let album;
const flow = await client.flow((b) => {
  const sizes = ['cat.png', 'dog.png'].flatMap((url) => {
    const original = b.add('image.fetch', { url });
    return [200, 800].map((width) => b.add('image.resize', { width }, { dependsOn: original, priority: 7 }));
  });
  album = b.add('album.publish', { title: 'Pets' }, { dependsOn: sizes });
});

console.log(`${flow.tasks.length} tasks`);
console.log(await flow.task(album).result());

await worker.stop();
await client.close();
