import type { Link } from '../../io/net.ts';
import { FRAME, FrameReader, PROTOCOL_VERSION } from '../../protocol/frames.ts';
import { FrameWriter } from '../../protocol/writer.ts';
import type { Dialing } from './connection.ts';

/**
 * A worker's second connection, which stays idle so that TCP keepalive can tell that the other host is cut off; see
 * docs/protocol.md. A worker that cannot have one (the server has no connection left) goes on without.
 */
export class Lifeline {
  readonly #attempt = new AbortController();
  #link: Link | undefined;
  #closed = false;

  /** `onEnd` is called once if the lifeline ends after it had begun. */
  constructor(dialing: Dialing, key: string, onEnd: () => void) {
    dialing.dial(this.#attempt.signal).then(
      (link) => {
        if (this.#closed) link.destroy();
        else this.#greet(link, dialing, key, onEnd);
      },
      () => {
        // What matters is the first connection; it reports its own troubles.
      },
    );
  }

  close(): void {
    this.#closed = true;
    this.#attempt.abort();
    this.#link?.destroy();
    this.#link = undefined;
  }

  #greet(link: Link, dialing: Dialing, key: string, onEnd: () => void): void {
    this.#link = link;
    let welcomed = false;
    const reader = new FrameReader((type) => {
      if (type === FRAME.WELCOME) welcomed = true;
    });
    link.handler = {
      data: (bytes) => {
        try {
          reader.push(bytes);
        } catch (error) {
          // Whoever is there is no server of ours; the first connection will say so.
          link.destroy(error as Error);
        }
      },
      drain: () => {},
      close: () => {
        if (this.#closed) return;
        this.close();
        if (welcomed) onEnd();
      },
    };
    const writer = new FrameWriter(link, (flush) => flush());
    const { identity, token } = dialing;
    writer.json(FRAME.HELLO, 1, { protocol: PROTOCOL_VERSION, ...identity, token, lifelineOf: key });
  }
}
