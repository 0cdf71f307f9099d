import { describe } from 'vitest';
import { sharedPostgres, sharedRabbit } from '../support/services.ts';
import { amqpWithStore } from './amqp-backends.ts';
import { conformance } from './conformance.ts';

const rabbit = await sharedRabbit();
const postgres = await sharedPostgres();

describe.skipIf(rabbit === undefined || postgres === undefined)('RabbitMQ and PostgreSQL', () => {
  if (rabbit !== undefined && postgres !== undefined) conformance(amqpWithStore(rabbit, postgres));
});
