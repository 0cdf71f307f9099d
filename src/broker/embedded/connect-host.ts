import type { Link } from '../../io/net.ts';
import { createLinkPair } from '../../io/pair-link.ts';
import type { Host } from '../../server/host.ts';
import { RemoteBroker, type RemoteOptions } from '../tcp/remote-broker.ts';

/** What a broker needs to be told when its server is in this process. */
export type HostRemoteOptions = Omit<RemoteOptions, 'dial' | 'lifelines' | 'serverFailure'>;

/**
 * A broker of a host in this process, over links that are no sockets. `isOwn`: for the host's own process, whose links take
 * nobody's room and are no connections in its status.
 */
export function connectHost(
  host: Host,
  options: HostRemoteOptions,
  { isOwn }: { isOwn: boolean },
): Promise<RemoteBroker> {
  const dial = async (): Promise<Link> => {
    const [near, far] = createLinkPair(options.clock);
    // A host that refuses writes at once, which would come before whoever dials has his handler there.
    await undefined;
    host.accept(far, { isOwn });
    return near;
  };
  return RemoteBroker.connect({ ...options, dial, lifelines: false, serverFailure: () => host.failure });
}
