import { Action } from './action.tsx';

interface PausingProps {
  name: string;
  paused: boolean;
  change: (verb: 'pause' | 'resume', done: string) => Promise<void>;
}

/** Pauses what goes on, and lets go on what is paused. */
export function Pausing({ name, paused, change }: PausingProps) {
  return paused ? (
    <Action icon="resume" label="Resume" name={`Resume ${name}`} onAct={() => change('resume', `${name} goes on.`)} />
  ) : (
    <Action icon="pause" label="Pause" name={`Pause ${name}`} onAct={() => change('pause', `${name} is paused.`)} />
  );
}
