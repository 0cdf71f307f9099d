import { resolve } from 'node:path';
import { MillraceError } from '../../errors.ts';
import type { Clock, Timer } from '../../io/clock.ts';
import type { Disk } from '../../io/disk.ts';
import { NodeDisk } from '../../io/node-disk.ts';
import { checkInteger, DEFAULTS, LIMITS } from '../../limits.ts';
import { Host, type HostOptions } from '../../server/host.ts';
import type { RemoteBroker, RemoteOptions } from '../tcp/remote-broker.ts';
import { connectToHost } from './in-process.ts';

/**
 * A server inside this process, reached over a link that is no socket. Clients of one process that name the same
 * directory share one host, which ends with the last of them; `memory:` alone is a host of its own, `memory:NAME` is
 * shared. When its storage fails, the host ends and with it all its clients; who connects then gets a new one.
 */
export type Place = { readonly directory: string } | { readonly memory: string };

export type EmbeddedOptions = Pick<
  HostOptions,
  'fsync' | 'fsyncIntervalMs' | 'retention' | 'cacheBytes' | 'segmentBytes'
>;

/** The sizes that are for tests only are not for users. The host checks the rest. Throws INVALID_ARGUMENT. */
export function checkEmbeddedOptions(options: EmbeddedOptions): void {
  const { segmentBytes, cacheBytes } = options;
  if (segmentBytes !== undefined) {
    checkInteger('segmentBytes', segmentBytes, LIMITS.segmentBytesMin, LIMITS.segmentBytesMax);
  }
  if (cacheBytes !== undefined) checkInteger('cacheBytes', cacheBytes, LIMITS.cacheBytesMin, LIMITS.cacheBytesMax);
}

interface SharedHost {
  readonly host: Promise<Host>;
  readonly options: EmbeddedOptions;
  users: number;
  stopped: Promise<void> | undefined;
}

const hosts = new Map<string, SharedHost>();
/** Hosts that are being stopped: their directories are still locked. */
const stopping = new Map<string, Promise<void>>();

/**
 * Rejects with DIRECTORY_LOCKED, JOURNAL_DAMAGED, JOURNAL_VERSION or JOURNAL_UNUSABLE, and with INVALID_ARGUMENT for
 * options other than those that the host runs with already.
 */
export async function connectEmbedded(
  place: Place,
  remote: Omit<RemoteOptions, 'dial' | 'lifelines' | 'closed'>,
  options: EmbeddedOptions,
  disk: Disk = new NodeDisk(),
): Promise<RemoteBroker> {
  const directory = 'directory' in place ? resolve(place.directory) : null;
  const key = 'directory' in place ? `file:${directory}` : `memory:${place.memory}`;
  const isPrivate = 'memory' in place && place.memory === '';
  const known = isPrivate ? undefined : hosts.get(key);
  if (known !== undefined) checkSame(known.options, options, remote.url);
  const shared = known ?? share(key, { ...options, directory, disk, clock: remote.clock, random: remote.random });
  if (!isPrivate) hosts.set(key, shared);
  shared.users++;
  const letGo = holdProcess(remote.clock);
  try {
    const host = await shared.host;
    const closed = (): Promise<void> => {
      letGo();
      return leave(key, shared);
    };
    return await connectToHost(host, { ...remote, closed });
  } catch (error) {
    letGo();
    await leave(key, shared);
    throw error;
  }
}

function share(key: string, options: EmbeddedOptions & HostOptions): SharedHost {
  const start = async (): Promise<Host> => {
    await stopping.get(key);
    return Host.start({ ...options, onFailure: () => void stop(key, shared) });
  };
  const shared: SharedHost = { host: start(), options, users: 0, stopped: undefined };
  return shared;
}

async function leave(key: string, shared: SharedHost): Promise<void> {
  if (--shared.users === 0) await stop(key, shared);
}

/** Nobody else gets this host; who needs its directory waits until it is free. */
function stop(key: string, shared: SharedHost): Promise<void> {
  if (shared.stopped !== undefined) return shared.stopped;
  if (hosts.get(key) === shared) hosts.delete(key);
  const stopped = shared.host
    .then(
      async (host) => {
        const unwritten = await host.stop({ timeoutMs: DEFAULTS.stopTimeoutMs });
        // What failed earlier was told to all who waited.
        if (unwritten !== undefined && unwritten !== host.failure) warn(unwritten);
      },
      // It never started; whoever connected was told.
      () => {},
    )
    .finally(() => {
      if (stopping.get(key) === stopped) stopping.delete(key);
    });
  shared.stopped = stopped;
  stopping.set(key, stopped);
  return stopped;
}

/** Those who close are not to be kept from ending by an error, but should know. */
function warn({ code, message }: MillraceError): void {
  process.emitWarning(message, { type: 'MillraceWarning', code });
}

const HOLD_MS = 3_600_000;

/** Keeps the process alive until the client is closed, as an open socket would. */
function holdProcess(clock: Clock): () => void {
  let timer: Timer;
  const hold = (): void => {
    timer = clock.setTimer(HOLD_MS, hold);
  };
  hold();
  return () => timer.cancel();
}

function checkSame(running: EmbeddedOptions, wanted: EmbeddedOptions, url: string): void {
  const differing = Object.entries(wanted).filter(
    ([name, value]) => JSON.stringify(value) !== JSON.stringify(running[name as keyof EmbeddedOptions]),
  );
  if (differing.length === 0) return;
  const names = differing.map(([name]) => name).join(', ');
  throw new MillraceError(
    'INVALID_ARGUMENT',
    `${url} is open in this process with other options (${names}): give the same ones, or none`,
    { details: { options: names } },
  );
}
