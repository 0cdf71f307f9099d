// @ts-check
/** Tasks whose handlers have begun and whose completions the server has not answered yet. */
export class Completions {
  #open = 0;
  #settled = () => {};

  begun() {
    this.#open += 1;
  }

  answered() {
    this.#open -= 1;
    if (this.#open === 0) this.#settled();
  }

  /** Resolves when the server has every completion so far. */
  async settled() {
    while (this.#open > 0) {
      await new Promise((resolve) => {
        this.#settled = () => resolve(undefined);
      });
    }
  }
}
