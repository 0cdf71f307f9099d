import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Acknowledgements } from './acknowledgements.ts';

test('an acknowledgement covers all that is finished, and nothing that is not', () => {
  const steps = fc.array(fc.array(fc.nat(49), { maxLength: 20 }), { maxLength: 20 });
  fc.assert(
    fc.property(steps, (turns) => {
      const acks = new Acknowledgements();
      const open = new Set<number>();
      for (let tag = 1; tag <= 50; tag++) {
        acks.delivered(tag);
        open.add(tag);
      }
      const finished = new Set<number>();
      for (const turn of turns) {
        for (const index of turn) {
          acks.finished(index + 1);
          finished.add(index + 1);
        }
        acks.flush((tag, multiple) => {
          // The broker refuses the tag of something that it does not wait for.
          expect(open.has(tag)).toBe(true);
          for (const each of multiple ? [...open].filter((other) => other <= tag) : [tag]) {
            expect(finished.has(each)).toBe(true);
            open.delete(each);
          }
        });
        expect([...finished].some((tag) => open.has(tag))).toBe(false);
      }
    }),
  );
});

test('what is finished in order is one acknowledgement', () => {
  const acks = new Acknowledgements();
  for (let tag = 1; tag <= 1000; tag++) acks.delivered(tag);
  const sent: [number, boolean][] = [];
  for (let tag = 1; tag <= 500; tag++) acks.finished(tag);
  acks.finished(502);
  acks.flush((tag, multiple) => sent.push([tag, multiple]));
  expect(sent).toEqual([
    [500, true],
    [502, false],
  ]);
});
