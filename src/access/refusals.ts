/** Those who were refused. Whoever comes again and again must not fill the log: a line for each reason, as often as it is asked for. */
export class Refusals {
  readonly #what: string;
  /** Since they were last reported, by the code that they were told. */
  readonly #refused = new Map<string, { count: number; remote: string; message: string }>();

  /** `what` one of them is: a connection, a request. */
  constructor(what: string) {
    this.#what = what;
  }

  add(remote: string, { code, message }: { readonly code: string; readonly message: string }): void {
    this.#refused.set(code, { count: (this.#refused.get(code)?.count ?? 0) + 1, remote, message });
  }

  /** What there is to say since it was last asked. */
  report(): string[] {
    const lines = [...this.#refused].map(([code, { count, remote, message }]) =>
      count === 1
        ? `${this.#what} from ${remote} refused: ${message}`
        : `${count} ${this.#what}s refused (${code}): the last, from ${remote}: ${message}`,
    );
    this.#refused.clear();
    return lines;
  }
}
