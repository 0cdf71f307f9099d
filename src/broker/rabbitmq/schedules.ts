import { MillraceError } from '../../errors.ts';
import type { ScheduleOperations } from '../contract.ts';

const refuse = (): Promise<never> =>
  Promise.reject(
    new MillraceError(
      'UNSUPPORTED',
      'schedules over RabbitMQ are not supported by this release: keep them on a server (tcp:) or in a file: queue whose tasks enqueue yours, or call enqueue from cron',
    ),
  );

/** A broker remembers no schedules, and nobody fires them. */
export const NO_SCHEDULES: ScheduleOperations = {
  set: refuse,
  get: refuse,
  list: refuse,
  pause: refuse,
  resume: refuse,
  remove: refuse,
  runNow: refuse,
};
