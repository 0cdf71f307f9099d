import fc from 'fast-check';

/** Numbers that lie at the edges of what lengths and counts may be. */
export const EDGES: readonly number[] = [
  ...[0, 1, 2, 7, 8, 9, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x1_0001],
  ...[0x10_0000, 0x100_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff],
];

/** A change of bytes. Places are shares of what there is, so that one change fits bytes of any length. */
export type Mutation =
  | { readonly what: 'flip'; readonly at: number; readonly bit: number }
  | { readonly what: 'byte'; readonly at: number; readonly value: number }
  | { readonly what: 'u32'; readonly at: number; readonly value: number }
  | { readonly what: 'cut'; readonly at: number }
  | { readonly what: 'remove'; readonly at: number; readonly count: number }
  | { readonly what: 'repeat'; readonly at: number; readonly count: number }
  | { readonly what: 'insert'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly what: 'copy'; readonly at: number; readonly from: number; readonly count: number };

const at = fc.integer({ min: 0, max: 0xffff });
const count = fc.integer({ min: 1, max: 64 });

export const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ what: fc.constant('flip' as const), at, bit: fc.nat(7) }),
  fc.record({
    what: fc.constant('byte' as const),
    at,
    value: fc.constantFrom(0, 1, 0x22, 0x5c, 0x7b, 0x7f, 0x80, 0xff),
  }),
  fc.record({ what: fc.constant('u32' as const), at, value: fc.constantFrom(...EDGES) }),
  fc.record({ what: fc.constant('cut' as const), at }),
  fc.record({ what: fc.constant('remove' as const), at, count }),
  fc.record({ what: fc.constant('repeat' as const), at, count }),
  fc.record({ what: fc.constant('insert' as const), at, bytes: fc.uint8Array({ minLength: 1, maxLength: 16 }) }),
  fc.record({ what: fc.constant('copy' as const), at, from: at, count }),
);

/** Most bytes stay as they are. */
export const fewMutations = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Mutation[]>([]) },
  { weight: 5, arbitrary: fc.array(mutation, { minLength: 1, maxLength: 1 }) },
  { weight: 2, arbitrary: fc.array(mutation, { minLength: 2, maxLength: 6 }) },
);

export function mutate(bytes: Buffer, mutations: readonly Mutation[]): Buffer {
  let changed: Buffer = Buffer.from(bytes);
  for (const each of mutations) changed = mutateOnce(changed, each);
  return changed;
}

function mutateOnce(bytes: Buffer, mutation: Mutation): Buffer {
  const place = Math.floor((mutation.at / 0x1_0000) * (bytes.length + 1));
  const [before, behind] = [bytes.subarray(0, place), bytes.subarray(place)];
  switch (mutation.what) {
    case 'flip':
      if (place < bytes.length) bytes[place] ^= 1 << mutation.bit;
      return bytes;
    case 'byte':
      if (place < bytes.length) bytes[place] = mutation.value;
      return bytes;
    case 'u32':
      if (place + 4 <= bytes.length) bytes.writeUInt32LE(mutation.value, place);
      return bytes;
    case 'cut':
      return Buffer.from(before);
    case 'remove':
      return Buffer.concat([before, behind.subarray(mutation.count)]);
    case 'repeat':
      return Buffer.concat([before, behind.subarray(0, mutation.count), behind]);
    case 'insert':
      return Buffer.concat([before, mutation.bytes, behind]);
    case 'copy': {
      const from = Math.floor((mutation.from / 0x1_0000) * bytes.length);
      const copied = Buffer.from(bytes.subarray(from, from + mutation.count));
      copied.copy(bytes, place);
      return bytes;
    }
    default:
      return mutation satisfies never;
  }
}

/** Lengths of pieces in which bytes arrive; the last one repeats. */
export const pieces = fc.oneof(
  fc.constant([Number.MAX_SAFE_INTEGER]),
  fc.constant([1]),
  fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 12 }),
);

export function cutInto(bytes: Buffer, lengths: readonly number[]): Buffer[] {
  const cut: Buffer[] = [];
  for (let offset = 0, turn = 0; offset < bytes.length; turn++) {
    const length = lengths[Math.min(turn, lengths.length - 1)];
    cut.push(bytes.subarray(offset, offset + length));
    offset += length;
  }
  return cut;
}
