import { connect, createServer, type Server, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { MillraceError } from '../errors.ts';
import { SystemClock, setPatientTimer } from './clock.ts';
import type { Acceptor, Address, Listener, Net } from './net.ts';
import { SOCKET_OPTIONS, SocketLink } from './socket-link.ts';
import { describeTlsError, type TlsServing } from './tls.ts';
import { TlsAcceptor } from './tls-acceptor.ts';

/**
 * A link that was dialled reads into one buffer for ever. A new one for each read costs little by itself, but V8 counts
 * what lies outside its heap and collects the whole heap for it: 78 full collections in a worker that ran 4,000,000
 * tasks, against 3. Node has no such way for a socket that was accepted.
 */
const READ_BYTES = 64 * 1024;

const clock = new SystemClock();

/** TCP over node:net, and TLS over node:tls. */
export const nodeNet: Net = {
  connect(address, timeoutMs, signal) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const { host, port, tls } = address;
      let link: SocketLink | undefined;
      const socket = dial(address, (bytes) => link?.received(bytes));
      const timer = setPatientTimer(clock, timeoutMs, () => {
        const message = `no connection to ${host}:${port} within ${timeoutMs} ms: check the address and the firewall`;
        socket.destroy(new MillraceError('TIMEOUT', message, { details: { host, port, timeoutMs } }));
      });
      const over = (): void => {
        timer.cancel();
        socket.off('error', failed);
        signal?.removeEventListener('abort', givenUp);
      };
      const failed = (error: Error): void => {
        over();
        reject(tls === undefined ? error : describeTlsError(error, `${host}:${port}`));
      };
      const givenUp = (): void => {
        over();
        socket.on('error', () => {
          // Nobody wants to know any more.
        });
        socket.destroy();
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', givenUp);
      socket.once('error', failed);
      socket.once(tls === undefined ? 'connect' : 'secureConnect', () => {
        over();
        link = new SocketLink(socket);
        resolve(link);
      });
    });
  },

  async listen(address, acceptor) {
    const { tls } = address;
    if (tls === undefined) {
      const server = createServer(SOCKET_OPTIONS, (socket) => {
        const link = new SocketLink(socket);
        socket.on('data', (bytes: Buffer) => link.received(bytes));
        acceptor.accept(link);
      });
      return open(server, address, acceptor, undefined);
    }
    const secure = new TlsAcceptor(tls, acceptor);
    return open(
      createServer(SOCKET_OPTIONS, (socket) => secure.arrived(socket)),
      address,
      acceptor,
      secure,
    );
  },
};

/** `received` is lent the bytes for the call. */
function dial({ host, port, tls }: Address, received: (bytes: Buffer) => void): Socket | TLSSocket {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const onread = {
    buffer,
    callback: (byteCount: number): boolean => {
      received(buffer.subarray(0, byteCount));
      return true;
    },
  };
  if (tls === undefined) return connect({ host, port, ...SOCKET_OPTIONS, onread });
  const options = { host, port, ...tls, onread };
  const socket = connectTls(options);
  // Given as options, Node would not pass them on to the socket below; and before it is connected the delay is lost.
  socket.once('connect', () => {
    socket.setNoDelay(SOCKET_OPTIONS.noDelay);
    socket.setKeepAlive(SOCKET_OPTIONS.keepAlive, SOCKET_OPTIONS.keepAliveInitialDelay);
  });
  return socket;
}

function open(
  server: Server,
  { host, port }: { host: string; port: number },
  { notAccepted }: Acceptor,
  secure: TlsAcceptor | undefined,
): Promise<Listener> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      reject(error.code === 'EADDRINUSE' ? addressInUse(host, port, error) : error);
    };
    server.once('error', failed);
    server.listen({ host, port }, () => {
      server.off('error', failed);
      server.on('error', notAccepted);
      const address = server.address();
      resolve({
        port: typeof address === 'object' && address !== null ? address.port : port,
        renewTls: (tls: TlsServing) => secure?.renew(tls),
        close: () =>
          new Promise((closed) => {
            // The callback of close() waits for open links; the port is free as soon as the handle is closed.
            server.close();
            secure?.close();
            setImmediate(closed);
          }),
      });
    });
  });
}

function addressInUse(host: string, port: number, cause: Error): MillraceError {
  return new MillraceError(
    'ADDRESS_IN_USE',
    `port ${port} on ${host} is taken by another process: stop it, or choose another port`,
    { cause, details: { host, port } },
  );
}
