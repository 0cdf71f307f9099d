import { describe } from 'vitest';
import { sharedRabbit } from '../support/services.ts';
import { amqp } from './amqp-backends.ts';
import { conformance } from './conformance.ts';

const rabbit = await sharedRabbit();

describe.skipIf(rabbit === undefined)('RabbitMQ', () => {
  if (rabbit !== undefined) conformance(amqp(rabbit));
});
