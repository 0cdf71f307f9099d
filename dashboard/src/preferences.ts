import { Store } from './store.ts';

export type Theme = 'auto' | 'light' | 'dark';

const THEME_KEY = 'millrace-theme';
const SPAN_KEY = 'millrace-chart-minutes';

/** Storage may be forbidden, or hold anything. */
function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function store(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // It holds for this visit.
  }
}

function storedTheme(): Theme {
  const theme = stored(THEME_KEY);
  return theme === 'light' || theme === 'dark' ? theme : 'auto';
}

export const theme = new Store<Theme>(storedTheme());

const dark = matchMedia('(prefers-color-scheme: dark)');

/** Which of the two is shown now. */
export const shade = new Store<'light' | 'dark'>('light');

function apply(): void {
  const wanted = theme.value;
  document.documentElement.dataset.theme = wanted;
  shade.set(wanted === 'auto' ? (dark.matches ? 'dark' : 'light') : wanted);
}

dark.addEventListener('change', apply);
apply();

export function setTheme(wanted: Theme): void {
  store(THEME_KEY, wanted);
  theme.set(wanted);
  apply();
}

export const SPANS_MIN = [1, 5, 15] as const;

/** How many minutes the charts show. */
export const spanMin = new Store<number>(SPANS_MIN.find((span) => String(span) === stored(SPAN_KEY)) ?? 5);

export function setSpan(minutes: number): void {
  store(SPAN_KEY, String(minutes));
  spanMin.set(minutes);
}
