import { Store } from './store.ts';

/** Where in the dashboard, kept behind the `#` so that a server, and any proxy, serves one page: `#/tasks?state=dead`. */
export interface Route {
  page: string;
  /** What stands behind the page: the id of a task. */
  argument: string;
  query: Readonly<Record<string, string>>;
}

export function parseRoute(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const [page = '', ...rest] = path.split('/');
  return {
    page: decoded(page) || 'overview',
    argument: decoded(rest.join('/')),
    query: Object.fromEntries(new URLSearchParams(search)),
  };
}

/** What cannot be decoded is taken as it is written. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

type Query = Readonly<Record<string, string | undefined>>;

export function href(page: string, query: Query = {}): string {
  const used = Object.entries(query).filter((entry): entry is [string, string] => !!entry[1]);
  return `#/${page}${used.length === 0 ? '' : `?${new URLSearchParams(used)}`}`;
}

export function taskHref(id: string): string {
  return `#/task/${encodeURIComponent(id)}`;
}

export const route = new Store<Route>(parseRoute(location.hash));

addEventListener('hashchange', () => route.set(parseRoute(location.hash)));

export function go(to: string): void {
  location.hash = to;
}

/** Without an entry in the browser's history: what is typed into a filter. */
export function replace(to: string): void {
  history.replaceState(null, '', to);
  route.set(parseRoute(to));
}
