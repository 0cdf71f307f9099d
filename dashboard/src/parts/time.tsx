import { useEffect, useState } from 'preact/hooks';
import { ago, time, utc } from '../format.ts';

/** In the viewer's zone, UTC on hover. */
export function Time({ atMs }: { atMs: number }) {
  return (
    <time dateTime={new Date(atMs).toISOString()} title={utc(atMs)}>
      {time(atMs)}
    </time>
  );
}

/** `12 s ago`, going on by itself. */
export function Ago({ atMs }: { atMs: number }) {
  const nowMs = useNow();
  return (
    <time dateTime={new Date(atMs).toISOString()} title={`${time(atMs)} · ${utc(atMs)}`}>
      {ago(atMs, nowMs)}
    </time>
  );
}

/** The time, again each second while the page is seen. */
export function useNow(): number {
  const [nowMs, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) setNow(Date.now());
    }, 1000);
    return () => clearInterval(timer);
  }, []);
  return nowMs;
}
