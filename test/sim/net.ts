import { MillraceError } from '../../src/errors.ts';
import type { Link, Listener, Net } from '../../src/io/net.ts';
import { type Packet, SimLink } from './link.ts';
import type { Machine, SimProcess } from './process.ts';
import type { SimRandom } from './random.ts';
import type { Scheduler } from './scheduler.ts';

/** What a link needs of the network. */
export interface Wire {
  send(from: SimLink, packet: Packet): void;
  latencyMs(): number;
  later(delayMs: number, process: SimProcess, label: string, run: () => void): void;
}

interface Listening {
  readonly process: SimProcess;
  readonly machine: Machine;
  readonly accept: (link: Link) => void;
}

/** Linux with the keepalive that Millrace asks for. */
const KEEPALIVE_MS = 12_000;
const RETRANSMIT_MS_MAX = 900_000;
const SYN_RETRY_MS = 1000;

/** TCP between machines, with everything that goes wrong with it. */
export class SimNet implements Wire {
  /** Mean one-way delay. */
  latencyMeanMs = 0.3;
  /** How often what is written arrives in pieces, and how often in single bytes. */
  splitShare = 0.2;
  byteShare = 0.02;
  /** Called with each link that a listener gets. */
  accepted: (link: SimLink) => void = () => {};
  readonly #scheduler: Scheduler;
  readonly #random: SimRandom;
  readonly #listening = new Map<number, Listening>();
  #links: SimLink[] = [];
  /** `from>to`, with how many cuts say so. */
  readonly #cuts = new Map<string, number>();
  #linkCount = 0;

  constructor(scheduler: Scheduler, random: SimRandom) {
    this.#scheduler = scheduler;
    this.#random = random;
  }

  /** The network as one process sees it. */
  of(process: SimProcess): Net {
    return {
      connect: (address, timeoutMs) => this.#connect(process, address.port, timeoutMs),
      listen: (address, { accept }) => this.#listen(process, address.port, accept),
    };
  }

  // ── Faults ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Nothing comes from one machine to the other until `heal`. */
  cut(from: Machine, to: Machine): void {
    const key = `${from.name}>${to.name}`;
    this.#cuts.set(key, (this.#cuts.get(key) ?? 0) + 1);
    for (const link of this.#open()) {
      if (link.process.machine === to && link.peer.process.machine === from) this.#watch(link);
    }
  }

  heal(from: Machine, to: Machine): void {
    const key = `${from.name}>${to.name}`;
    const count = (this.#cuts.get(key) ?? 0) - 1;
    if (count > 0) this.#cuts.set(key, count);
    else this.#cuts.delete(key);
    if (count > 0) return;
    for (const link of this.#links) {
      if (link.process.machine !== to || link.peer.process.machine !== from) continue;
      // At once: what was sent later is on its way already, and must not come first.
      for (const packet of link.held.splice(0)) link.arrive(packet);
    }
  }

  /** A firewall forgets a connection, or an administrator resets it. */
  reset(index: number): void {
    const open = this.#open();
    if (open.length === 0) return;
    const link = open[index % open.length] as SimLink;
    link.timeOut('ECONNRESET');
    if (this.#random.chance(0.5)) link.peer.timeOut('ECONNRESET');
  }

  /** The process is over. */
  abandon(process: SimProcess, powerLost: boolean): void {
    for (const [port, listening] of this.#listening) if (listening.process === process) this.#listening.delete(port);
    for (const link of this.#links) {
      if (link.process !== process || link.gone) continue;
      link.abandon(powerLost);
      if (powerLost && !link.peer.closed) this.#watch(link.peer);
    }
    this.#links = this.#links.filter((link) => !link.closed || !link.peer.closed || link.peer.held.length > 0);
  }

  #open(): SimLink[] {
    return this.#links.filter((link) => !link.closed);
  }

  #isCut(from: Machine, to: Machine): boolean {
    return !from.up || !to.up || this.#cuts.has(`${from.name}>${to.name}`);
  }

  /** Both ends notice in their own time that nothing comes back. */
  #watch(link: SimLink): void {
    for (const end of [link, link.peer]) {
      const delayMs = this.#random.between(KEEPALIVE_MS - 4000, KEEPALIVE_MS);
      this.#scheduler.schedule(delayMs, undefined, 'keepalive', () => this.#probe(end, true));
    }
  }

  #probe(end: SimLink, first: boolean): void {
    if (end.closed) return;
    const { machine: here } = end.process;
    const { machine: there } = end.peer.process;
    const broken = this.#isCut(here, there) || this.#isCut(there, here);
    if (!broken && !end.peer.gone) return;
    if (!broken) end.timeOut('ECONNRESET');
    else if (end.idle || !first) end.timeOut('ETIMEDOUT');
    else {
      const delayMs = this.#random.magnitude(5000, RETRANSMIT_MS_MAX);
      this.#scheduler.schedule(delayMs, undefined, 'retransmission', () => this.#probe(end, false));
    }
  }

  // ── Wire ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  latencyMs(): number {
    return this.latencyMeanMs * 0.3 + this.#random.exponential(this.latencyMeanMs * 0.7);
  }

  later(delayMs: number, process: SimProcess, label: string, run: () => void): void {
    this.#scheduler.schedule(delayMs, process, label, run);
  }

  send(from: SimLink, packet: Packet): void {
    const to = from.peer;
    if (packet.kind !== 'bytes') {
      this.#scheduler.note(`${from.process.name} ${packet.kind}`);
      this.#travel(to, packet, this.latencyMs());
      return;
    }
    this.#scheduler.noteBytes(`${from.process.name} sends`, packet.bytes);
    for (const bytes of this.#pieces(packet.bytes)) this.#travel(to, { kind: 'bytes', bytes }, this.latencyMs());
  }

  #pieces(bytes: Buffer): Buffer[] {
    if (bytes.length < 2 || !this.#random.chance(this.splitShare)) return [bytes];
    const pieces: Buffer[] = [];
    if (bytes.length <= 300 && this.#random.chance(this.byteShare)) {
      for (let at = 0; at < bytes.length; at++) pieces.push(bytes.subarray(at, at + 1));
      return pieces;
    }
    const at = this.#random.int(1, bytes.length - 1);
    return [bytes.subarray(0, at), bytes.subarray(at)];
  }

  #travel(to: SimLink, packet: Packet, delayMs: number): void {
    const arrivalMs = Math.max(to.lastArrivalMs, this.#scheduler.nowMs + delayMs);
    to.lastArrivalMs = arrivalMs;
    this.#scheduler.scheduleAt(arrivalMs, undefined, 'packet', () => {
      // All of it, or what comes later would be taken for what comes next. The reset is the new kernel's.
      if (to.peer.mute && packet.kind !== 'reset') return;
      if (to.held.length === 0 && !this.#isCut(to.peer.process.machine, to.process.machine)) to.arrive(packet);
      else if (!to.gone) to.held.push(packet);
    });
  }

  // ── Connections ───────────────────────────────────────────────────────────────────────────────────────────────────

  #connect(process: SimProcess, port: number, timeoutMs: number): Promise<Link> {
    return new Promise((resolve, reject) => {
      const deadlineMs = this.#scheduler.nowMs + timeoutMs;
      const knock = (): void => {
        if (!process.alive) return;
        const listening = this.#listening.get(port);
        const machine = listening?.machine ?? this.serverMachine;
        const cut = this.#isCut(process.machine, machine) || this.#isCut(machine, process.machine);
        if (cut) {
          if (this.#scheduler.nowMs >= deadlineMs) {
            this.later(0, process, 'connect timeout', () => reject(new MillraceError('TIMEOUT', 'no connection')));
          } else this.#scheduler.schedule(SYN_RETRY_MS, undefined, 'syn', knock);
        } else if (listening === undefined) {
          const error = Object.assign(new Error(`connect ECONNREFUSED server:${port}`), { code: 'ECONNREFUSED' });
          this.later(this.latencyMs(), process, 'refused', () => reject(error));
        } else this.#establish(process, listening, resolve);
      };
      this.#scheduler.schedule(this.latencyMs(), undefined, 'syn', knock);
    });
  }

  /** Whose ports are knocked at when nobody listens. */
  serverMachine!: Machine;

  #establish(process: SimProcess, listening: Listening, connected: (link: Link) => void): void {
    const number = ++this.#linkCount;
    const windowBytes = Math.round(this.#random.magnitude(2000, 1_000_000));
    const near = new SimLink(this, process, `server:${number}`, windowBytes);
    const far = new SimLink(this, listening.process, `${process.name}:${number}`, windowBytes);
    near.peer = far;
    far.peer = near;
    this.#links.push(near, far);
    this.later(0, listening.process, 'accept', () => {
      this.accepted(far);
      listening.accept(far);
    });
    const readyMs = this.latencyMs();
    // The first bytes from the other side must not come before the handler is there.
    near.lastArrivalMs = this.#scheduler.nowMs + readyMs + 0.001;
    this.later(readyMs, process, 'connected', () => connected(near));
  }

  async #listen(process: SimProcess, port: number, accept: (link: Link) => void): Promise<Listener> {
    this.#listening.set(port, { process, machine: process.machine, accept });
    return {
      port,
      renewTls: () => {},
      close: async () => {
        this.#listening.delete(port);
      },
    };
  }
}
