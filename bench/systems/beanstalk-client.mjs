// @ts-check
import { once } from 'node:events';
import { connect } from 'node:net';

/**
 * As much of beanstalkd's protocol as the bench needs, pipelined: commands go out without waiting, what is called in one turn
 * in one write, and answers come in the order of the commands. The clients on npm write each command by itself.
 */
export class BeanstalkClient {
  #socket;
  /** @type {{ resolve: (answer: Answer) => void, reject: (error: Error) => void }[]} */
  #waiting = [];
  #waitingFirst = 0;
  /** @type {string[]} */
  #outgoing = [];
  /** @type {Buffer} */
  #received = Buffer.alloc(0);

  /** @param {string} url `beanstalk://HOST:PORT` */
  static async open(url) {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, 'connect');
    return new BeanstalkClient(socket);
  }

  /** @param {import('node:net').Socket} socket */
  constructor(socket) {
    this.#socket = socket;
    socket.on('data', (data) => this.#take(data));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('beanstalkd closed the connection')));
  }

  /** @param {string} tube */
  use(tube) {
    return this.#command(`use ${tube}\r\n`, 'USING');
  }

  /** @param {string} tube */
  watch(tube) {
    return this.#command(`watch ${tube}\r\n`, 'WATCHING');
  }

  /**
   * @param {string} body ASCII, so that its length is its size.
   * @param {number} timeToRunS
   */
  put(body, timeToRunS) {
    return this.#command(`put 0 0 ${timeToRunS} ${body.length}\r\n${body}\r\n`, 'INSERTED');
  }

  /** Waits for a job, and until then answers nothing else on this connection. */
  async reserve() {
    return jobOf(await this.#command('reserve\r\n', 'RESERVED'));
  }

  /** Undefined when no job is ready. */
  async reserveNow() {
    const answer = await this.#command('reserve-with-timeout 0\r\n', 'RESERVED', 'TIMED_OUT');
    return answer.words[0] === 'TIMED_OUT' ? undefined : jobOf(answer);
  }

  /** @param {string} id */
  delete(id) {
    return this.#command(`delete ${id}\r\n`, 'DELETED');
  }

  close() {
    this.#socket.destroy();
  }

  /**
   * @param {string} text
   * @param {string[]} expected
   * @returns {Promise<Answer>}
   */
  async #command(text, ...expected) {
    if (this.#outgoing.length === 0) setImmediate(() => this.#send());
    this.#outgoing.push(text);
    /** @type {Answer} */
    const answer = await new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (expected.includes(answer.words[0])) return answer;
    throw new Error(`beanstalkd answered ${answer.words.join(' ')}, not ${expected.join(' or ')}`);
  }

  #send() {
    const text = this.#outgoing.join('');
    this.#outgoing = [];
    this.#socket.write(text, 'latin1');
  }

  /** @param {Buffer} data */
  #take(data) {
    const all = this.#received.length === 0 ? data : Buffer.concat([this.#received, data]);
    let at = 0;
    for (;;) {
      const lineEnd = all.indexOf('\r\n', at);
      if (lineEnd === -1) break;
      const words = all.toString('latin1', at, lineEnd).split(' ');
      let next = lineEnd + 2;
      let body;
      if (words[0] === 'RESERVED') {
        const bytes = Number(words[2]);
        if (all.length < next + bytes + 2) break;
        body = all.subarray(next, next + bytes);
        next += bytes + 2;
      }
      at = next;
      this.#waiting[this.#waitingFirst++].resolve({ words, body });
    }
    this.#received = all.subarray(at);
    if (this.#waitingFirst > 10_000) {
      this.#waiting.splice(0, this.#waitingFirst);
      this.#waitingFirst = 0;
    }
  }

  /** @param {Error} error */
  #fail(error) {
    for (const { reject } of this.#waiting.splice(this.#waitingFirst)) reject(error);
  }
}

/** @param {Answer} answer */
function jobOf({ words, body }) {
  return { id: words[1], body: /** @type {Buffer} */ (body) };
}

/** @typedef {{ words: string[], body: Buffer | undefined }} Answer */
