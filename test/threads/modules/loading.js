import { getEnvironmentData } from 'node:worker_threads';

/** Never ends to load, keeps its thread, and shows that it goes on. */
const words = getEnvironmentData('words');
const word = Number(new URL(import.meta.url).searchParams.get('word'));
for (;;) {
  Atomics.add(words, word, 1);
  Atomics.notify(words, word);
}
