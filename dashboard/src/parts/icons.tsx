const PATHS = {
  pause: 'M5 3v10M11 3v10',
  resume: 'M4.5 2.8v10.4L13 8z',
  retry: 'M13 8a5 5 0 1 1-1.6-3.7M13 2.2v3h-3',
  refresh: 'M13 8a5 5 0 1 1-1.6-3.7M13 2.2v3h-3',
  cancel: 'M3.6 3.6l8.8 8.8M12.4 3.6l-8.8 8.8',
  purge: 'M2.8 4.2h10.4M6 4V2.6h4V4M4.2 4.4l.7 9h6.2l.7-9M6.8 6.8v4M9.2 6.8v4',
  redrive: 'M3 8a5 5 0 0 1 8.8-3.2L13 6M13 2.6V6H9.6M13 8a5 5 0 0 1-8.8 3.2L3 10M3 13.4V10h3.4',
  run: 'M8.8 1.8 3.4 9.2h4l-.6 5 5.8-7.6h-4z',
  sun: 'M8 5a3 3 0 1 0 0 6 3 3 0 1 0 0-6M8 1.2v1.6M8 13.2v1.6M1.2 8h1.6M13.2 8h1.6M3.2 3.2l1.1 1.1M11.7 11.7l1.1 1.1M12.8 3.2l-1.1 1.1M4.3 11.7l-1.1 1.1',
  moon: 'M13 9.6A5.6 5.6 0 1 1 6.4 3a4.6 4.6 0 0 0 6.6 6.6z',
  auto: 'M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 1 0 8 2.2M8 2.2v11.6M9.5 3v10M11 4v8M12.5 5.6v4.8',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
  download: 'M8 2v8M4.8 7 8 10.2 11.2 7M2.6 13.4h10.8',
  down: 'M3.5 6 8 10.5 12.5 6',
  right: 'M6 3.5 10.5 8 6 12.5',
  left: 'M10 3.5 5.5 8l4.5 4.5',
  warning: 'M8 2 1.6 13.4h12.8zM8 6.4v3.4M8 11.6v.2',
  check: 'M2.8 8.4l3.4 3.6 7-8',
  info: 'M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 1 0 8 2.2M8 7.2v4M8 4.9v.2',
} as const;

export type IconName = keyof typeof PATHS;

/** Beside words, which say the same; an icon alone is inside a labelled button. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Brand() {
  return (
    <svg class="brand-mark" viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <circle cx="16" cy="13" r="7.2" />
      <path d="M16 5.8v14.4M8.8 13h14.4M10.9 7.9l10.2 10.2M21.1 7.9 10.9 18.1" />
      <path d="M4.5 25.5q3.8-3.4 7.6 0t7.6 0 7.6 0" />
    </svg>
  );
}
