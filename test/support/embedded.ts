import { connectEmbedded, type EmbeddedOptions, type Place } from '../../src/broker/embedded/embedded.ts';
import { RemoteBroker, type RemoteOptions } from '../../src/broker/tcp/remote-broker.ts';
import { Client } from '../../src/client/client.ts';
import { type Clock, SystemClock } from '../../src/io/clock.ts';
import type { Disk } from '../../src/io/disk.ts';
import type { Link } from '../../src/io/net.ts';
import { createLinkPair } from '../../src/io/pair-link.ts';
import { SystemRandom } from '../../src/io/random.ts';
import { DEFAULTS } from '../../src/limits.ts';
import type { Host } from '../../src/server/host.ts';
import { ManualClock } from '../twins/manual-clock.ts';
import { memoryDirectory } from '../twins/memory-disk.ts';
import { settle } from './scripted-server.ts';

/** A client with a server of its own in memory; time passes only when the test says so. */
export async function openInMemory(): Promise<{ client: Client; broker: RemoteBroker; clock: ManualClock }> {
  const clock = new ManualClock(Date.UTC(2026, 0, 1));
  return { ...(await open({ memory: '' }, clock)), clock };
}

/** A client of the one server of this process on that disk; time passes by itself unless there is a `clock`. */
export function openOnDisk(
  disk: Disk,
  options: EmbeddedOptions = {},
  clock: Clock = new SystemClock(),
): Promise<{ client: Client; broker: RemoteBroker }> {
  return open({ directory: memoryDirectory() }, clock, options, disk);
}

/** A client of a host that the test has made. */
export async function connectHost(host: Host): Promise<Client> {
  const { clock } = host.engine;
  const dial = async (): Promise<Link> => {
    const [near, far] = createLinkPair(clock);
    host.accept(far);
    return near;
  };
  const ends = { dial, lifelines: false, serverFailure: () => host.failure };
  const broker = await RemoteBroker.connect({ ...remoteOptions('host:', clock), ...ends });
  return new Client(broker, { clock, workerName: 'tester' });
}

async function open(
  place: Place,
  clock: Clock,
  embedded: EmbeddedOptions = {},
  disk?: Disk,
): Promise<{ client: Client; broker: RemoteBroker }> {
  const url = 'memory' in place ? 'memory:' : `file:${place.directory}`;
  const broker = await connectEmbedded(place, remoteOptions(url, clock), embedded, disk);
  return { client: new Client(broker, { clock, workerName: 'tester' }), broker };
}

function remoteOptions(url: string, clock: Clock): Omit<RemoteOptions, 'dial' | 'lifelines'> {
  const random = new SystemRandom();
  const { reconnect, connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs } = DEFAULTS;
  const identity = { client: 'test', host: 'here', pid: 1, version: '1.0.0', producer: random.hex(16) };
  return { url, clock, random, reconnect, connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs, identity };
}

/** Closes the client although handlers hang: the clock goes on until nothing waits any more. */
export async function closeInMemory(client: Client, clock: ManualClock): Promise<void> {
  let closed = false;
  const closing = client.close({ timeoutMs: 0 }).then(() => {
    closed = true;
  });
  while (!closed) {
    await settle();
    clock.advance(1000);
  }
  await closing;
}

/** Something that a test waits for, to be opened from a handler. */
export class Gate {
  readonly opened: Promise<void>;
  open!: () => void;

  constructor() {
    this.opened = new Promise((resolve) => {
      this.open = resolve;
    });
  }
}
