import { useState } from 'preact/hooks';
import { info } from '../api/stats.ts';
import { useStore } from '../store.ts';
import { Icon, type IconName } from './icons.tsx';
import { notify } from './notices.tsx';

interface Props {
  icon: IconName;
  /** What it says. */
  label: string;
  /** What it says to those who do not see what it stands beside: `Pause mail`. */
  name?: string;
  isDanger?: boolean;
  /** Why it cannot be done now. */
  refusal?: string | undefined;
  onAct: () => Promise<unknown> | undefined;
}

/** Changes something on the server: not for those who may only read. It says why it is off, and can be reached then too. */
export function Action({ icon, label, name, isDanger = false, refusal, onAct }: Props) {
  const [isBusy, setBusy] = useState(false);
  const roles = useStore(info).data?.roles;
  const reason = roles?.includes('operate') === false ? 'Your credentials may only read (role read).' : refusal;
  const run = async (): Promise<void> => {
    if (reason !== undefined) return notify('failed', reason);
    setBusy(true);
    try {
      await onAct();
    } finally {
      setBusy(false);
    }
  };
  return (
    <button
      type="button"
      class={`button ${isDanger ? 'button-danger-quiet' : ''}`}
      aria-label={name}
      title={reason}
      aria-disabled={reason !== undefined || isBusy}
      onClick={() => {
        if (!isBusy) void run();
      }}
    >
      <Icon name={icon} />
      {label}
    </button>
  );
}
