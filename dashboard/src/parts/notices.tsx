import { Store, useStore } from '../store.ts';
import { Icon } from './icons.tsx';

interface Notice {
  id: number;
  kind: 'done' | 'failed';
  text: string;
}

const NOTICES_MAX = 4;
const DONE_MS = 6000;

const notices = new Store<readonly Notice[]>([]);
let lastId = 0;

/** What was done goes away by itself; what failed stays until it is closed. */
export function notify(kind: Notice['kind'], text: string): void {
  lastId += 1;
  const id = lastId;
  notices.set([...notices.value, { id, kind, text }].slice(-NOTICES_MAX));
  if (kind === 'done') setTimeout(() => dismiss(id), DONE_MS);
}

function dismiss(id: number): void {
  notices.set(notices.value.filter((notice) => notice.id !== id));
}

export function Notices() {
  return (
    <div class="notices" role="status" aria-live="polite">
      {useStore(notices).map(({ id, kind, text }) => (
        <div key={id} class={`notice notice-${kind}`}>
          <Icon name={kind === 'done' ? 'check' : 'warning'} />
          <span>{text}</span>
          <button type="button" class="button-plain" aria-label="Close this notice" onClick={() => dismiss(id)}>
            <Icon name="cancel" />
          </button>
        </div>
      ))}
    </div>
  );
}
