import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api/client.ts';
import { Store, useStore } from '../store.ts';
import { Icon } from './icons.tsx';
import { notify } from './notices.tsx';

/** A question before something that cannot be taken back, or that happens to many. */
export interface Question {
  title: string;
  text: ComponentChildren;
  /** What the button that does it says. */
  action: string;
  isDanger: boolean;
  /** Does it, telling how far it is; resolves with what to tell at the end. */
  run: (tell: (progress: string) => void, signal: AbortSignal) => Promise<string>;
}

const question = new Store<Question | undefined>(undefined);

export function ask(asked: Question): void {
  question.set(asked);
}

export function DialogHost() {
  const asked = useStore(question);
  return asked === undefined ? null : <ConfirmDialog key={asked.title} asked={asked} />;
}

function ConfirmDialog({ asked }: { asked: Question }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [progress, setProgress] = useState<string>();
  const [failure, setFailure] = useState<string>();
  const stopping = useRef<AbortController | undefined>(undefined);
  useLayoutEffect(() => dialog.current?.showModal(), []);
  useEffect(() => () => stopping.current?.abort(), []);
  const close = (): void => {
    stopping.current?.abort();
    dialog.current?.close();
  };
  const run = async (): Promise<void> => {
    const controller = new AbortController();
    stopping.current = controller;
    setFailure(undefined);
    setProgress('Working …');
    try {
      notify('done', await asked.run(setProgress, controller.signal));
      dialog.current?.close();
    } catch (error) {
      setProgress(undefined);
      setFailure(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="dialog-title" onClose={() => question.set(undefined)}>
      <h2 id="dialog-title">{asked.title}</h2>
      <div class="dialog-text">{asked.text}</div>
      {failure !== undefined && (
        <p class="dialog-failure" role="alert">
          <Icon name="warning" /> {failure}
        </p>
      )}
      {progress !== undefined && (
        <p class="dialog-progress" role="status">
          {progress}
        </p>
      )}
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={close}>
          {progress === undefined ? 'Keep as it is' : 'Stop here'}
        </button>
        <button
          type="button"
          class={`button ${asked.isDanger ? 'button-danger' : 'button-main'}`}
          disabled={progress !== undefined}
          onClick={() => void run()}
        >
          {failure === undefined ? asked.action : 'Try again'}
        </button>
      </div>
    </dialog>
  );
}

/** Something small that needs no question. */
export async function act(what: () => Promise<unknown>, done: string): Promise<void> {
  try {
    await what();
    notify('done', done);
  } catch (error) {
    notify('failed', error instanceof ApiError ? error.message : String(error));
  }
}
