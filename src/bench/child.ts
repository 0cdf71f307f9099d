import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '../errors.ts';
import type { Answer, MethodName, Methods, Params, Request, Result } from './methods.ts';

export type Role = 'server' | 'producer' | 'worker' | 'bare' | 'headline' | 'load' | 'noise';

/** A module that answers its parent, and what runs it. */
export interface Program {
  file: string;
  /** Default: what runs this process. */
  execPath?: string;
  execArgv?: string[];
}

export interface Profile {
  directory: string;
  /** Of the file, before `.cpuprofile`. */
  name: string;
}

/** A child that was told to leave and did not, is killed. */
const LEAVE_TIMEOUT_MS = 10_000;

/**
 * One process of a benchmark. The channel to it coordinates and carries results, never tasks.
 *
 *   start ──call──► … ──leave──► left       it leaves by itself when its parent is gone
 *     └──kill──► left ◄──unexpected exit: open calls reject
 */
export class Child<M extends Methods> {
  readonly role: string;
  readonly #process: ChildProcess;
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  readonly #left: Promise<void>;
  #callCount = 0;
  #exited = false;

  static start<M extends Methods>(role: Role, profile: Profile | undefined): Child<M> {
    const file = fileURLToPath(new URL(`./${role}-process.js`, import.meta.url));
    return new Child<M>(role, { file, execArgv: profile === undefined ? [] : cpuProfile(profile) });
  }

  /** One that is not of these roles. */
  static startProgram<M extends Methods>(role: string, program: Program): Child<M> {
    return new Child<M>(role, program);
  }

  private constructor(role: string, { file, execPath = process.execPath, execArgv = [] }: Program) {
    this.role = role;
    this.#process = fork(file, [], { execPath, execArgv, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.#process.on('message', (answer: Answer) => this.#answered(answer));
    this.#process.on('error', (error) => this.#failCalls(error));
    this.#left = new Promise((resolve) => {
      this.#process.on('exit', (code, signal) => {
        this.#exited = true;
        this.#failCalls(new Error(`the ${this.role} process ended (${signal ?? `exit code ${code}`})`));
        resolve();
      });
    });
  }

  call<N extends MethodName<M>>(method: N, params: Params<M, N>, timeoutMs: number): Promise<Result<M, N>> {
    return new Promise((resolve, reject) => {
      const id = ++this.#callCount;
      const timer = setTimeout(() => {
        this.#calls.delete(id);
        reject(new MillraceError('TIMEOUT', `the ${this.role} process did not answer ${method} in ${timeoutMs} ms`));
      }, timeoutMs);
      this.#calls.set(id, {
        resolve: (value) => {
          clearTimeout(timer);
          // The child answers with what the method of its own table gave.
          resolve(value as Result<M, N>);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      if (this.#exited) this.#failCalls(new Error(`the ${this.role} process has ended`));
      else
        this.#process.send(
          { id, method, params } satisfies Request,
          (error) => error !== null && this.#failCalls(error),
        );
    });
  }

  /** In order, so that a profile is written. Always resolves. */
  async leave(): Promise<void> {
    if (this.#process.connected) this.#process.disconnect();
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), LEAVE_TIMEOUT_MS);
    await this.#left;
    clearTimeout(timer);
  }

  /** As a crash would. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#left;
  }

  #answered(answer: Answer): void {
    const call = this.#calls.get(answer.id);
    this.#calls.delete(answer.id);
    if (answer.error === undefined) call?.resolve(answer.result);
    else call?.reject(new Error(`${this.role} process: ${answer.error}`));
  }

  #failCalls(error: Error): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.reject(error);
  }
}

function cpuProfile({ directory, name }: Profile): string[] {
  return ['--cpu-prof', `--cpu-prof-dir=${directory}`, `--cpu-prof-name=${name}.cpuprofile`];
}
