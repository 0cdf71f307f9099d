import { createLinkPair } from '../../io/pair-link.ts';
import type { Host } from '../../server/host.ts';
import { RemoteBroker, type RemoteOptions } from '../tcp/remote-broker.ts';

type Grant = Parameters<Host['acceptInside']>[1];

/** A broker over a host of this process, reached over a link that is no socket, as whoever has the grant. It does not end the host. */
export function connectToHost(
  host: Host,
  remote: Omit<RemoteOptions, 'dial' | 'lifelines' | 'serverFailure'>,
  grant?: Grant,
): Promise<RemoteBroker> {
  return RemoteBroker.connect({
    ...remote,
    lifelines: false,
    dial: async () => {
      const [near, far] = createLinkPair(remote.clock);
      // A host that refuses writes at once, which must not come before whoever dials has his handler there.
      await undefined;
      host.acceptInside(far, grant);
      return near;
    },
    serverFailure: () => host.failure,
  });
}
