import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** Stands before a cluster, as a load balancer does: each connection goes to the next node that takes it. */
export class Balancer {
  readonly port: number;
  readonly #server: Server;
  readonly #ports: readonly number[];
  readonly #sockets = new Set<Socket>();
  #next = 0;

  static async start(ports: readonly number[]): Promise<Balancer> {
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new Balancer(server, ports);
  }

  private constructor(server: Server, ports: readonly number[]) {
    this.#server = server;
    this.#ports = ports;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (near) => this.#pass(near, this.#ports.length));
  }

  get url(): string {
    return `amqp://127.0.0.1:${this.port}`;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #pass(near: Socket, tries: number): void {
    const port = this.#ports[this.#next++ % this.#ports.length] as number;
    const far = connect({ port, host: '127.0.0.1', noDelay: true });
    near.on('error', () => far.destroy());
    far.once('connect', () => {
      near.pipe(far).pipe(near);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.once('close', () => {
          this.#sockets.delete(one);
          other.destroy();
        });
      }
    });
    far.once('error', () => {
      if (far.pending && tries > 1) this.#pass(near, tries - 1);
      else near.destroy();
    });
  }
}
