import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { SystemClock } from './clock.ts';
import type { Acceptor, Link, LinkHandler, Listener } from './net.ts';
import { nodeNet } from './node-net.ts';
import { createLinkPair } from './pair-link.ts';
import type { TlsDialing, TlsServing } from './tls.ts';

/** Records what a link says and lets a test wait for it. */
class Ear implements LinkHandler {
  readonly chunks: Buffer[] = [];
  byteCount = 0;
  drains = 0;
  closed: { reason: Error | undefined } | undefined;
  readonly #link: Link;
  #wake: (() => void)[] = [];

  constructor(link: Link) {
    this.#link = link;
    link.handler = this;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  data(bytes: Buffer): void {
    this.chunks.push(Buffer.from(bytes));
    this.byteCount += bytes.length;
    this.#woke();
  }

  drain(): void {
    this.drains++;
    this.#woke();
  }

  close(reason: Error | undefined): void {
    this.closed = { reason };
    this.#woke();
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#wake.push(resolve));
  }

  destroy(): void {
    this.#link.destroy();
  }

  #woke(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

const listeners: Listener[] = [];
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.close();
});

const PEM = join(import.meta.dirname, '../../test/access/tls');
const pem = (name: string): string => readFileSync(join(PEM, name), 'utf8');
const DEAF: Acceptor = { accept: () => {}, refuse: () => {}, notAccepted: () => {} };

async function tlsPair(): Promise<[Link, Link]> {
  const serving = { cert: pem('server.pem'), key: pem('server.key') };
  return socketPair({ tls: serving }, { tls: { ca: pem('ca.pem'), rejectUnauthorized: true } });
}

function tcpPair(): Promise<[Link, Link]> {
  return socketPair({}, {});
}

async function socketPair(listening: { tls?: TlsServing }, dialling: { tls?: TlsDialing }): Promise<[Link, Link]> {
  let accept = (_link: Link): void => {};
  const accepted = new Promise<Link>((resolve) => {
    accept = resolve;
  });
  const listener = await nodeNet.listen(
    { host: '127.0.0.1', port: 0, ...listening },
    { ...DEAF, accept: (link) => accept(link) },
  );
  listeners.push(listener);
  const near = await nodeNet.connect({ host: '127.0.0.1', port: listener.port, ...dialling }, 1000);
  return [near, await accepted];
}

describe.each([
  ['tcp', tcpPair],
  ['tls', tlsPair],
  ['pair', () => Promise.resolve(createLinkPair(new SystemClock()))],
] as const)('%s link', (_name, connectPair) => {
  async function ears(): Promise<[Link, Ear, Link, Ear]> {
    const [a, b] = await connectPair();
    return [a, new Ear(a), b, new Ear(b)];
  }

  test('carries bytes in order, and `written` comes once for each write', async () => {
    const [a, nearEar, , farEar] = await ears();
    const parts = Array.from({ length: 200 }, (_, index) => Buffer.alloc(10_000, index));
    const written = parts.map(() => 0);
    for (const [index, part] of parts.entries()) {
      a.write(part, () => {
        written[index] = (written[index] as number) + 1;
      });
    }
    await farEar.until(() => farEar.byteCount === 2_000_000);
    expect(farEar.bytes.equals(Buffer.concat(parts))).toBe(true);
    a.end();
    await nearEar.until(() => nearEar.closed !== undefined);
    expect(written.every((count) => count === 1)).toBe(true);
  });

  test('what was handed over does not change when the writer uses its buffer again', async () => {
    const [a, nearEar, , farEar] = await ears();
    const buffer = Buffer.from('first');
    a.write(buffer, () => void buffer.write('wrong'));
    await farEar.until(() => farEar.chunks.length > 0);
    expect(farEar.bytes.toString()).toBe('first');
    nearEar.destroy();
  });

  test('a paused reader gets nothing until it resumes; the writer then drains', async () => {
    const [a, nearEar, b, farEar] = await ears();
    b.pause();
    const bytes = Buffer.alloc(20_000_000, 1);
    a.write(bytes);
    expect(a.bufferedBytes).toBeGreaterThan(0);
    expect(farEar.chunks).toEqual([]);
    b.resume();
    await nearEar.until(() => nearEar.drains > 0);
    expect(a.bufferedBytes).toBe(0);
    await farEar.until(() => farEar.byteCount === bytes.length);
    nearEar.destroy();
  });

  test('`end` sends what is buffered; both sides then close without a reason', async () => {
    const [a, nearEar, , farEar] = await ears();
    a.write(Buffer.alloc(1_000_000));
    a.end();
    await farEar.until(() => farEar.closed !== undefined);
    expect(farEar.byteCount).toBe(1_000_000);
    expect(farEar.closed).toEqual({ reason: undefined });
    await nearEar.until(() => nearEar.closed !== undefined);
    expect(nearEar.closed).toEqual({ reason: undefined });
  });

  test('`destroy` closes this side with its reason and calls every `written`', async () => {
    const [a, nearEar, b, farEar] = await ears();
    b.pause();
    let written = 0;
    for (let index = 0; index < 50; index++) a.write(Buffer.alloc(1_000_000), () => void written++);
    const reason = new Error('enough');
    a.destroy(reason);
    a.write(Buffer.from('late'), () => void written++);
    await nearEar.until(() => nearEar.closed !== undefined);
    expect(nearEar.closed).toEqual({ reason });
    b.resume();
    await farEar.until(() => farEar.closed !== undefined);
    expect(written).toBe(51);
  });
});

describe('tcp', () => {
  test('a taken port is a clear error', async () => {
    const listener = await nodeNet.listen({ host: '127.0.0.1', port: 0 }, DEAF);
    listeners.push(listener);
    await expect(nodeNet.listen({ host: '127.0.0.1', port: listener.port }, DEAF)).rejects.toMatchObject({
      code: 'ADDRESS_IN_USE',
      message: expect.stringContaining(`port ${listener.port} on 127.0.0.1 is taken`),
    });
  });

  test('a closed listener frees its port while links stay open', async () => {
    const [a, nearEar, b] = await tcpPair().then(([near, far]) => [near, new Ear(near), far] as const);
    const [listener] = listeners.splice(0) as [Listener];
    await listener.close();
    listeners.push(await nodeNet.listen({ host: '127.0.0.1', port: listener.port }, DEAF));
    b.write(Buffer.from('still here'));
    await nearEar.until(() => nearEar.chunks.length > 0);
    a.destroy();
  });

  test('a connection that is given up while it is made rejects with the reason, and nothing is left of it', async () => {
    const attempt = new AbortController();
    const reason = new Error('not wanted any more');
    let close = (): void => {};
    const closed = new Promise<void>((resolve) => {
      close = resolve;
    });
    const accept = (link: Link): void => {
      link.handler = { data: () => attempt.abort(reason), drain: () => {}, close };
    };
    const listener = await nodeNet.listen({ host: '127.0.0.1', port: 0 }, { ...DEAF, accept });
    listeners.push(listener);
    const { port } = listener;
    const address = { host: '127.0.0.1', port, tls: { ca: pem('ca.pem'), rejectUnauthorized: true } };
    await expect(nodeNet.connect(address, 60_000, attempt.signal)).rejects.toBe(reason);
    await closed;
    await expect(nodeNet.connect(address, 60_000, attempt.signal)).rejects.toBe(reason);
  });

  test('a refused connection rejects with the system’s code', async () => {
    const listener = await nodeNet.listen({ host: '127.0.0.1', port: 0 }, DEAF);
    await listener.close();
    await expect(nodeNet.connect({ host: '127.0.0.1', port: listener.port }, 1000)).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
  });
});
