import { afterAll, describe, test } from 'vitest';
import { attempts } from './attempts.ts';
import { batches } from './batches.ts';
import { bounds } from './bounds.ts';
import { cancelling } from './cancelling.ts';
import { carrying } from './carrying.ts';
import { closing } from './closing.ts';
import { enqueueing } from './enqueueing.ts';
import { keeping } from './keeping.ts';
import { limiting } from './limiting.ts';
import { operating } from './operating.ts';
import { order } from './order.ts';
import type { Backend, Behaviours } from './place.ts';
import { relating, uniqueness } from './relating.ts';
import { results } from './results.ts';
import { scheduling } from './scheduling.ts';
import { searching } from './searching.ts';
import { telling } from './telling.ts';
import { time } from './time.ts';
import { watching } from './watching.ts';
import { working } from './working.ts';

const SUBJECTS: Readonly<Record<string, Behaviours>> = {
  enqueueing,
  results,
  order,
  time,
  attempts,
  carrying,
  telling,
  cancelling,
  operating,
  searching,
  working,
  batches,
  closing,
  keeping,
  bounds,
  relating,
  uniqueness,
  limiting,
  scheduling,
  watching,
};

/** What every backend does alike. */
export function conformance(backend: Backend): void {
  const exceptions = new Map(Object.entries(backend.exceptions));
  describe(backend.name, () => {
    afterAll(() => backend.close?.());

    for (const [subject, behaviours] of Object.entries(SUBJECTS)) {
      describe(subject, () => {
        for (const [name, behaviour] of Object.entries(behaviours)) {
          const reason = exceptions.get(name);
          exceptions.delete(name);
          if (reason !== undefined) test.skip(`${name} (not here: ${reason})`);
          else {
            test(name, async () => {
              const place = await backend.open();
              try {
                await behaviour(place);
              } finally {
                await place.close();
              }
            });
          }
        }
      });
    }
    test('every exception names a behaviour', () => {
      if (exceptions.size > 0) throw new Error(`there is no behaviour ${JSON.stringify([...exceptions.keys()])}`);
    });
  });
}
