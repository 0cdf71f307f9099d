import { expect, test } from 'vitest';
import { Credentials } from './credentials.ts';
import { EVERYTHING, type Grant } from './grant.ts';
import { KeptShare } from './kept-share.ts';

const SECRET = 'secret-0123456789';
const web = Credentials.parse(`work web ${SECRET} mail`, 'file').find(SECRET) as Grant;

function open(): { sizes: Map<string, number>; use: (grant: Grant, key: string, size: number) => void } {
  const sizes = new Map<string, number>();
  const share = new KeptShare<string>({
    countMax: 3,
    sizeMax: 10,
    sizeOf: (key) => sizes.get(key) ?? 0,
    total: () => [...sizes.values()].reduce((sum, size) => sum + size, 0),
    forget: (key) => sizes.delete(key),
  });
  const use = (grant: Grant, key: string, size: number): void => {
    sizes.set(key, size);
    share.used(grant, key);
  };
  return { sizes, use };
}

test('who needs more than his share gives up what is his and was used first', () => {
  const { sizes, use } = open();
  use(EVERYTHING, 'theirs', 1);
  for (const key of ['a', 'b', 'a', 'c', 'd']) use(web, key, 1);
  expect([...sizes.keys()]).toEqual(['theirs', 'a', 'c', 'd']);
});

test('so it is with what it takes together', () => {
  const { sizes, use } = open();
  use(EVERYTHING, 'theirs', 100);
  use(web, 'a', 6);
  use(web, 'b', 4);
  expect([...sizes.keys()]).toEqual(['theirs', 'a', 'b']);
  use(web, 'c', 11);
  expect([...sizes.keys()]).toEqual(['theirs', 'c']);
});

test('who may use all queues has no share', () => {
  const { sizes, use } = open();
  for (const key of ['a', 'b', 'c', 'd', 'e']) use(EVERYTHING, key, 10);
  expect(sizes.size).toBe(5);
});

test('what was forgotten for others is given up before what is still kept', () => {
  const { sizes, use } = open();
  use(EVERYTHING, 'theirs', 100);
  use(web, 'a', 6);
  use(web, 'b', 4);
  sizes.delete('a');
  use(web, 'c', 5);
  expect([...sizes.keys()]).toEqual(['theirs', 'b', 'c']);
});

test('a size that changed counts as it is when it is used again', () => {
  const { sizes, use } = open();
  use(EVERYTHING, 'theirs', 100);
  use(web, 'a', 2);
  use(web, 'b', 2);
  use(web, 'a', 9);
  expect([...sizes.keys()]).toEqual(['theirs', 'a']);
});
