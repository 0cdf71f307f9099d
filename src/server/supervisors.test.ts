import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { Credentials } from '../access/credentials.ts';
import { EVERYTHING, type Grant } from '../access/grant.ts';
import { LIMITS } from '../limits.ts';
import { Supervisors } from './supervisors.ts';

function report(number: number, current = 1) {
  const id = `supervisor${number}`;
  return { id, name: id, host: 'here', pid: number, queues: [], min: 1, max: 8, current, retiring: 0, decisions: [] };
}

test('one that says nothing any more is forgotten', () => {
  const clock = new ManualClock();
  const supervisors = new Supervisors(clock);
  supervisors.heard(report(1), EVERYTHING);
  supervisors.heard(report(2), EVERYTHING);
  clock.advance(LIMITS.scalingForgottenMs);
  supervisors.heard(report(2, 3), EVERYTHING);
  expect(supervisors.list()).toMatchObject([
    { pid: 1, lastSeenMs: LIMITS.scalingForgottenMs },
    { pid: 2, current: 3 },
  ]);
  clock.advance(1);
  expect(supervisors.list()).toEqual([{ ...report(2, 3), lastSeenMs: 1 }]);
});

test('of too many the one that has been silent for longest is forgotten', () => {
  const clock = new ManualClock();
  const supervisors = new Supervisors(clock);
  for (let number = 1; number <= LIMITS.supervisorsMax; number++) {
    supervisors.heard(report(number), EVERYTHING);
    clock.advance(1);
  }
  supervisors.heard(report(1), EVERYTHING);
  clock.advance(1);
  supervisors.heard(report(0), EVERYTHING);
  expect(supervisors.list()).toHaveLength(LIMITS.supervisorsMax);
  const pids = supervisors.list().map((each) => (each as { pid: number }).pid);
  expect([pids.includes(0), pids.includes(1), pids.includes(2)]).toEqual([true, true, false]);
});

describe('who may use some queues only', () => {
  const secret = 'secret-0123456789';
  const mailer = Credentials.parse(`work mailer ${secret} mail.*`, 'file').find(secret) as Grant;

  test('does not speak for the supervisors of others', () => {
    const supervisors = new Supervisors(new ManualClock());
    supervisors.heard(report(1), EVERYTHING);
    supervisors.heard(report(1, 8), mailer);
    expect(supervisors.list()).toMatchObject([{ current: 1 }, { current: 8 }]);
  });

  test('does not have those of others forgotten', () => {
    const clock = new ManualClock();
    const supervisors = new Supervisors(clock);
    supervisors.heard(report(0), EVERYTHING);
    for (let number = 1; number <= LIMITS.supervisorsMax; number++) {
      clock.advance(1);
      supervisors.heard(report(number), mailer);
    }
    const pids = supervisors.list().map((each) => (each as { pid: number }).pid);
    expect(pids).toContain(0);
    expect(pids).toContain(LIMITS.supervisorsMax);
    expect(pids).toHaveLength(1 + LIMITS.supervisorsMax / 2);
  });
});
