import type { Consumption, DeliveryRun, FailOptions, Payload, TaskError } from '../broker/contract.ts';
import { isSealed } from './envelope.ts';
import type { Sealing } from './sealing.ts';

/**
 * What a worker says of its tasks: results and the texts of errors are encrypted. Where what is not encrypted is taken too, a
 * task is answered as it came: whoever has enqueued it may have no keys yet.
 */
export class SealedConsumption implements Consumption {
  readonly #consumption: Consumption;
  readonly #sealing: Sealing;

  constructor(consumption: Consumption, sealing: Sealing) {
    this.#consumption = consumption;
    this.#sealing = sealing;
  }

  complete(run: DeliveryRun, index: number, result: Payload | undefined): void {
    const isPlain = result === undefined || !this.#seals(run, index);
    this.#consumption.complete(
      run,
      index,
      isPlain ? result : this.#sealing.sealResult(result, run.spec, run.id(index)),
    );
  }

  completeMany(run: DeliveryRun, from: number, to: number): void {
    this.#consumption.completeMany(run, from, to);
  }

  fail(run: DeliveryRun, index: number, error: TaskError, options: FailOptions, startedAtMs: number): void {
    const told = this.#seals(run, index) ? this.#sealing.sealError(error, run.spec, run.id(index)) : error;
    this.#consumption.fail(run, index, told, options, startedAtMs);
  }

  release(run: DeliveryRun, index: number): void {
    this.#consumption.release(run, index);
  }

  begun(run: DeliveryRun, index: number, atOnce: boolean): void {
    this.#consumption.begun(run, index, atOnce);
  }

  progress(run: DeliveryRun, index: number, progress: string): void {
    this.#consumption.progress(run, index, progress);
  }

  log(run: DeliveryRun, index: number, text: string): void {
    this.#consumption.log(run, index, text);
  }

  stop(): Promise<void> {
    return this.#consumption.stop();
  }

  settled(timeoutMs: number): Promise<void> {
    return this.#consumption.settled(timeoutMs);
  }

  close(): Promise<void> {
    return this.#consumption.close();
  }

  #seals(run: DeliveryRun, index: number): boolean {
    return this.#sealing.ring.required || isSealed(run.bytes(index));
  }
}
