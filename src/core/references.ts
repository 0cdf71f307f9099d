/** References to segments that were dropped and not reported yet; they come in runs of one segment. */
export class DroppedReferences {
  readonly #report: (segment: number, delta: number) => void;
  #segment = 0;
  #count = 0;

  constructor(report: (segment: number, delta: number) => void) {
    this.#report = report;
  }

  add(segment: number): void {
    if (segment !== this.#segment) this.report();
    this.#segment = segment;
    this.#count++;
  }

  report(): void {
    if (this.#count === 0) return;
    const count = this.#count;
    this.#count = 0;
    this.#report(this.#segment, -count);
  }
}
