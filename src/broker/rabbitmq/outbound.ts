import { MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { ChannelModel, ConfirmChannel } from './amqplib.ts';
import { type Fault, faultOf } from './channel-fault.ts';
import type { Link } from './link.ts';
import type { Parcel } from './parcel.ts';
import { Publisher } from './publisher.ts';
import type { Need, Topology } from './topology.ts';

/**
 * The way of everything that a client publishes: what a parcel needs is declared first, then the publisher has it. Keeps
 * the publisher's channel open for as long as there is a connection.
 */
interface Gate {
  readonly key: string;
  readonly needs: readonly Need[];
  /** In the order in which they came. */
  readonly parcels: Parcel[];
  opening: boolean;
}

const RETRY_MS = 500;
const RESTORE_MS = 250;

export class Outbound {
  readonly publisher: Publisher;
  readonly #clock: Clock;
  readonly #link: Link;
  readonly #topology: Topology;
  /** Parcels whose needs are being declared, by what these are. */
  readonly #gates = new Map<string, Gate>();
  /** What has to be there before anything is sent over a new connection. */
  readonly #always: () => readonly Need[];
  #channel: ConfirmChannel | undefined;
  /** Why the broker closed the channel, or its connection, last, and when, steady time. */
  #lastFault: { readonly fault: Fault; readonly atMs: number } | undefined;
  #closed: MillraceError | undefined;

  constructor(clock: Clock, link: Link, topology: Topology, always: () => readonly Need[]) {
    this.#always = always;
    this.#clock = clock;
    this.#link = link;
    this.#topology = topology;
    this.publisher = new Publisher(clock, {
      stalled: () => this.#reopen(),
      refused: () => this.#reopen(),
      restore: async (parcel) => {
        // A queue that is deleted and is there again at once keeps the broker from telling consumers that theirs is gone.
        await new Promise<void>((resolve) => clock.setTimer(RESTORE_MS, resolve));
        topology.forget(parcel.needs);
        await topology.ensure(parcel.needs);
      },
    });
  }

  /** Whether there is a broker that takes messages now. */
  get takes(): boolean {
    return this.#link.ready && this.#link.blockedReason === undefined;
  }

  send(parcel: Parcel): void {
    if (this.#closed !== undefined) {
      parcel.settled(this.#closed);
      return;
    }
    const { needs } = parcel;
    let known = true;
    for (const need of needs) known &&= this.#topology.has(need);
    if (known && this.#gates.size === 0) this.publisher.send(parcel);
    else this.#gate(parcel, known);
  }

  /** Settles those of the parcels that have no answer yet with `error`, and sends them no more. */
  withdraw(parcels: ReadonlySet<Parcel>, error: MillraceError): void {
    for (const gate of this.#gates.values()) {
      for (const parcel of gate.parcels.splice(0)) {
        if (parcels.has(parcel)) parcel.settled(error);
        else gate.parcels.push(parcel);
      }
    }
    this.publisher.withdraw(parcels, error);
  }

  /** Resolves when the publisher has its channel; rejects when the broker refuses it. */
  async open(model: ChannelModel): Promise<void> {
    const channel = await this.#link.answer(model, model.createConfirmChannel(), LIMITS.amqpCallTimeoutMs);
    if (this.#link.model !== model) return;
    let fault: Fault | undefined;
    const keep = (scope: Fault['scope'], error: unknown): void => {
      fault = faultOf(scope, error);
      if (fault !== undefined) this.#lastFault = { fault, atMs: this.#clock.steadyMs() };
    };
    const ended = (error: unknown): void => keep('connection', error);
    // `close` follows.
    channel.on('error', (error) => keep('channel', error));
    model.once('error', ended);
    channel.on('close', () => {
      model.removeListener('error', ended);
      if (this.#link.model === model) this.#channelClosed(model, fault);
    });
    this.#channel = channel;
    await this.#restoreAlways();
    this.#attach(channel);
    for (const gate of this.#gates.values()) this.#open(gate);
  }

  /** Closed by us: its end opens the next one. A channel that hangs may not even close; then the connection ends. */
  #reopen(): void {
    const { channel, link } = { channel: this.#channel, link: this.#link };
    this.#channel = undefined;
    if (channel === undefined || link.model === undefined) return;
    link.answer(link.model, channel.close(), LIMITS.amqpCloseTimeoutMs).catch(() => {
      // It is closed already, or its connection is given up: either opens the next.
    });
  }

  /** What the broker said when it closed the channel, or its connection, if it has done so since then. */
  faultSince(steadyMs: number): string | undefined {
    const last = this.#lastFault;
    return last === undefined || last.atMs < steadyMs ? undefined : last.fault.message;
  }

  lost(): void {
    this.publisher.detach();
  }

  close(error: MillraceError): void {
    this.#closed ??= error;
    for (const gate of this.#gates.values()) for (const parcel of gate.parcels) parcel.settled(error);
    this.#gates.clear();
    this.publisher.close(error);
  }

  #gate(parcel: Parcel, known: boolean): void {
    const key = keyOf(parcel.needs);
    const gate = this.#gates.get(key);
    if (gate !== undefined) {
      gate.parcels.push(parcel);
    } else if (known) {
      this.publisher.send(parcel);
    } else {
      const opened: Gate = { key, needs: parcel.needs, parcels: [parcel], opening: false };
      this.#gates.set(key, opened);
      this.#open(opened);
    }
  }

  #open(gate: Gate): void {
    if (gate.opening || !this.#link.ready) return;
    if (gate.parcels.length === 0) {
      // All of them were withdrawn: whoever needs it next declares it.
      this.#gates.delete(gate.key);
      return;
    }
    gate.opening = true;
    this.#topology.ensure(gate.needs).then(
      () => {
        this.#gates.delete(gate.key);
        for (const parcel of gate.parcels.sort((a, b) => a.dueMs - b.dueMs)) {
          if (parcel.reroute !== undefined) Object.assign(parcel, parcel.reroute());
          this.publisher.send(parcel);
        }
      },
      (error: unknown) => {
        gate.opening = false;
        if (error instanceof MillraceError && error.retryable) this.#openLater(gate);
        else this.#refuse(gate, error);
      },
    );
  }

  /** The connection was lost, perhaps: then the next opens it sooner. */
  #openLater(gate: Gate): void {
    this.#clock.setTimer(RETRY_MS, () => this.#open(gate)).unref();
  }

  #refuse(gate: Gate, error: unknown): void {
    this.#gates.delete(gate.key);
    const refusal = error instanceof MillraceError ? error : new MillraceError('PROTOCOL', String(error));
    for (const parcel of gate.parcels) parcel.settled(refusal);
  }

  async #restoreAlways(): Promise<void> {
    const needs = this.#always();
    this.#topology.forget(needs);
    try {
      await this.#topology.ensure(needs);
    } catch (error) {
      // Whatever is sent from now on and needs it is refused for that; what does not goes out.
      if (!isRefusal(error)) throw error;
    }
  }

  /**
   * A broker that lost its exchanges closes the channel that publishes to them, again and again: what goes through them waits
   * until they are there. One queue in trouble holds up only what is on its way to it.
   */
  #attach(channel: ConfirmChannel): void {
    const held = this.publisher.routed();
    const groups = new Map<string, Parcel[]>();
    for (const parcel of held) {
      const key = keyOf(parcel.needs);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [parcel]);
      else group.push(parcel);
      this.#topology.forget(parcel.needs);
    }
    this.publisher.attach(channel, new Set(held));
    for (const parcels of groups.values()) this.#release(channel, new Set(parcels), (parcels[0] as Parcel).needs);
  }

  /** Lets go of what is held when what it needs is there. */
  #release(channel: ConfirmChannel, parcels: ReadonlySet<Parcel>, needs: readonly Need[]): void {
    this.#topology.ensure(needs).then(
      () => this.publisher.release(channel, parcels),
      (error: unknown) => {
        // Then they are held for the next.
        if (this.#channel !== channel) return;
        if (isRefusal(error)) this.publisher.withdraw(parcels, error);
        else this.#releaseLater(channel, parcels, needs);
      },
    );
  }

  #releaseLater(channel: ConfirmChannel, parcels: ReadonlySet<Parcel>, needs: readonly Need[]): void {
    this.#clock
      .setTimer(RETRY_MS, () => {
        // Perhaps all of them were withdrawn.
        const left = this.publisher.routed().filter((parcel) => parcels.has(parcel));
        if (this.#channel === channel && left.length > 0) this.#release(channel, new Set(left), needs);
      })
      .unref();
  }

  #channelClosed(model: ChannelModel, fault: Fault | undefined): void {
    this.publisher.detach(fault);
    this.#clock
      .setTimer(RETRY_MS, () => {
        if (this.#link.model !== model) return;
        this.open(model).catch((error: unknown) => {
          if (this.#link.model === model) this.#link.reconnect(String((error as Error).message));
        });
      })
      .unref();
  }
}

/** Of what stays as it is until somebody changes it. */
function isRefusal(error: unknown): error is MillraceError {
  return error instanceof MillraceError && (error.code === 'CONFLICT' || error.code === 'UNSUPPORTED');
}

function keyOf(needs: readonly Need[]): string {
  let key = '';
  for (const need of needs) key += need.kind === 'delay' ? `|${need.level}>${need.queue}` : `|${need.name}`;
  return key;
}
