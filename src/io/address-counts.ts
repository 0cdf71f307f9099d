import { isIPv6 } from 'node:net';
import { MillraceError } from '../errors.ts';

/**
 * How many connections each address has. One that is written as IPv6 and stands for one of IPv4 is that; of IPv6 a network of 64
 * bits is one address, as whoever has one of its addresses has them all. Only who has a connection is remembered.
 */
export class AddressCounts {
  readonly #max: number;
  readonly #counts = new Map<string, number>();

  /** Infinity: nothing is counted. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Counts one more, and returns how to take it back. Throws CONNECTION_LIMIT. */
  enter(address: string): () => void {
    if (this.#max === Number.POSITIVE_INFINITY) return NOTHING;
    const owner = ownerOf(address);
    const count = this.#counts.get(owner) ?? 0;
    if (count >= this.#max) throw tooMany(owner, count, this.#max);
    this.#counts.set(owner, count + 1);
    return () => this.#leave(owner);
  }

  #leave(owner: string): void {
    const count = (this.#counts.get(owner) ?? 0) - 1;
    if (count > 0) this.#counts.set(owner, count);
    else this.#counts.delete(owner);
  }
}

const NOTHING = (): void => {};

function tooMany(address: string, connections: number, bound: number): MillraceError {
  const message = `${address} has ${connections} connections here, as many as one address may have: close some, or raise --connections-per-address-max`;
  return new MillraceError('CONNECTION_LIMIT', message, { details: { address, connections, bound } });
}

const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;
const GROUPS = 8;

/** Whom an address is counted for: `203.0.113.7`, `2001:db8:0:7::/64`. */
export function ownerOf(address: string): string {
  const [, mapped] = MAPPED.exec(address) ?? [];
  if (mapped !== undefined) return mapped;
  if (!isIPv6(address) || address === '::1') return address;
  // Without the zone of a link-local one, and with its last four bytes as two groups.
  const plain = (address.split('%')[0] as string).replace(/\d+\.\d+\.\d+\.\d+$/, '0:0');
  const [head = '', tail] = plain.split('::');
  const first = head === '' ? [] : head.split(':');
  const last = tail === undefined || tail === '' ? [] : tail.split(':');
  const between = new Array<string>(Math.max(0, GROUPS - first.length - last.length)).fill('0');
  const network = [...first, ...between, ...last].slice(0, GROUPS / 2);
  return `${network.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`;
}
