// @ts-check
// Loaded before the player under Bun, whose process.hrtime counts from the start of the process: here it is the clock that
// all processes share, as in Node.
// @ts-expect-error: Bun's own module, whose types are not installed.
import { dlopen, FFIType, ptr } from 'bun:ffi';

const CLOCK_MONOTONIC = 1;
const libc = dlopen('libc.so.6', { clock_gettime: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 } });
/** Seconds and nanoseconds. */
const time = new BigInt64Array(2);
const ownNs = process.hrtime.bigint;
libc.symbols.clock_gettime(CLOCK_MONOTONIC, ptr(time));
const startedNs = time[0] * 1_000_000_000n + time[1] - ownNs();
process.hrtime.bigint = () => ownNs() + startedNs;
