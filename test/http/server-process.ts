import { RunningCommand } from '../support/command.ts';

/** `millrace server` in a process of its own, which can be killed. */
export class ServerProcess {
  readonly url: string;
  readonly #command: RunningCommand;

  static async start(directory: string): Promise<ServerProcess> {
    const args = ['server', '--data', directory, '--port', '0', '--http-port', '0'];
    const command = new RunningCommand(args, { directory });
    const [, url = ''] = await command.said(/HTTP API on (\S+)/);
    return new ServerProcess(command, url);
  }

  private constructor(command: RunningCommand, url: string) {
    this.#command = command;
    this.url = url;
  }

  /** Resolves when it is durable. */
  async enqueue(name: string): Promise<void> {
    const response = await fetch(`${this.url}/v1/tasks`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name }),
    });
    await response.text();
  }

  kill(): Promise<unknown> {
    return this.#command.kill();
  }
}
