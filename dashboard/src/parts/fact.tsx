import type { ComponentChildren } from 'preact';

/** One of a list of facts (`<dl>`). */
export function Fact({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}
