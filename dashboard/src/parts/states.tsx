import type { ComponentChildren } from 'preact';
import type { ApiError } from '../api/client.ts';
import { Icon } from './icons.tsx';

/** Nothing here, and what to do about it. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** A command to type. */
export function Command({ children }: { children: string }) {
  return (
    <pre class="command">
      <code>{children}</code>
    </pre>
  );
}

export function Failure({ error, onRetry }: { error: ApiError; onRetry: () => void }) {
  if (error.code === 'UNSUPPORTED') {
    return (
      <div class="notice-box">
        <Icon name="info" />
        <div>
          <strong>This backend does not have it.</strong>
          <p>{error.message}</p>
        </div>
      </div>
    );
  }
  return (
    <div class="notice-box notice-box-failed" role="alert">
      <Icon name="warning" />
      <div>
        <strong>{error.isOutage ? 'The server did not answer.' : 'That did not work.'}</strong>
        <p>
          {error.message} <span class="muted">({error.code})</span>
        </p>
        <button type="button" class="button" onClick={onRetry}>
          <Icon name="retry" />
          Try again
        </button>
      </div>
    </div>
  );
}

/** A page that has nothing to show yet: it comes, or it says why not. */
export function Unready({
  title,
  error,
  onRetry,
}: {
  title: string;
  error: ApiError | undefined;
  onRetry: () => void;
}) {
  return (
    <>
      <h1>{title}</h1>
      {error === undefined ? <Loading /> : <Failure error={error} onRetry={onRetry} />}
    </>
  );
}

export function Loading() {
  return (
    <p class="loading" role="status">
      Loading …
    </p>
  );
}

export function Panel({
  title,
  aside,
  children,
}: {
  title: ComponentChildren;
  aside?: ComponentChildren;
  children: ComponentChildren;
}) {
  return (
    <section class="panel">
      <header class="panel-head">
        <h2>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

/** A share as a bar, beside its number. */
export function Bar({ value, label }: { value: number; label: string }) {
  const percent = Math.round(Math.min(1, Math.max(0, value)) * 100);
  return (
    <span class="bar-row">
      <span class="bar" aria-hidden="true">
        <span class="bar-fill" style={{ width: `${percent}%` }} />
      </span>
      <span class="bar-label">{label}</span>
    </span>
  );
}
