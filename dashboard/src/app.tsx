import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { connection, refreshAll, setPaused, usePoller } from './api/live.ts';
import { info, stats } from './api/stats.ts';
import { compact, duration } from './format.ts';
import { Dead } from './pages/dead.tsx';
import { Overview } from './pages/overview.tsx';
import { Queues } from './pages/queues.tsx';
import { Schedules } from './pages/schedules.tsx';
import { Task } from './pages/task.tsx';
import { Tasks } from './pages/tasks.tsx';
import { Workers } from './pages/workers.tsx';
import { Boundary } from './parts/boundary.tsx';
import { DialogHost } from './parts/dialog.tsx';
import { Brand, Icon } from './parts/icons.tsx';
import { Notices } from './parts/notices.tsx';
import { Empty } from './parts/states.tsx';
import { useNow } from './parts/time.tsx';
import { setTheme, type Theme, theme } from './preferences.ts';
import { route } from './route.ts';
import { useStore } from './store.ts';

const PAGES: Readonly<Record<string, { title: string; inMenu: boolean; view: () => ComponentChildren }>> = {
  overview: { title: 'Overview', inMenu: true, view: () => <Overview /> },
  queues: { title: 'Queues', inMenu: true, view: () => <Queues /> },
  tasks: { title: 'Tasks', inMenu: true, view: () => <Tasks /> },
  task: { title: 'Task', inMenu: false, view: () => <Task /> },
  workers: { title: 'Workers', inMenu: true, view: () => <Workers /> },
  schedules: { title: 'Schedules', inMenu: true, view: () => <Schedules /> },
  dead: { title: 'Dead letters', inMenu: true, view: () => <Dead /> },
};

export function App() {
  const { page, argument } = useStore(route);
  const shown = Object.hasOwn(PAGES, page) ? PAGES[page] : undefined;
  useEffect(() => {
    document.title = `${shown?.title ?? 'Not found'}${argument === '' ? '' : ` ${argument}`} · Millrace`;
    scrollTo(0, 0);
  }, [shown, argument]);
  return (
    <>
      {/* No link: the hash is the route. */}
      <button type="button" class="skip" onClick={() => document.getElementById('main')?.focus()}>
        Skip to the content
      </button>
      <Head page={page} />
      <Outage />
      <main id="main" tabIndex={-1}>
        {shown === undefined ? (
          <Empty title="There is no such page.">
            <a href="#/overview">Overview</a>
          </Empty>
        ) : (
          <Boundary of={`${page}/${argument}`}>{shown.view()}</Boundary>
        )}
      </main>
      <Notices />
      <DialogHost />
    </>
  );
}

function Head({ page }: { page: string }) {
  const { data: about } = usePoller(info);
  const dead = usePoller(stats).data?.queues.reduce((sum, queue) => sum + queue.dead, 0) ?? 0;
  const menu = useRef<HTMLElement>(null);
  useEffect(() => {
    // On a phone the menu is wider than the screen.
    const current = menu.current?.querySelector<HTMLElement>('[aria-current]');
    if (current)
      menu.current?.scrollTo({ left: current.offsetLeft - menu.current.clientWidth / 2 + current.offsetWidth / 2 });
  }, [page]);
  return (
    <header class="head">
      <a class="brand" href="#/overview">
        <Brand />
        Millrace
      </a>
      <nav ref={menu} class="menu" aria-label="Pages">
        {Object.entries(PAGES)
          .filter(([, { inMenu }]) => inMenu)
          .map(([name, { title }]) => (
            <a
              key={name}
              href={`#/${name}`}
              aria-current={page === name || (page === 'task' && name === 'tasks') ? 'page' : undefined}
            >
              {title}
              {name === 'dead' && dead > 0 && <span class="badge">{compact(dead)}</span>}
            </a>
          ))}
      </nav>
      <span class="head-end">
        {about?.roles.includes('operate') === false && <span class="tag">read only</span>}
        <Live />
        <ThemeSwitch />
      </span>
    </header>
  );
}

const LIVE_WORDS = { connecting: 'connecting', live: 'live', paused: 'paused', gone: 'server gone' } as const;

function Live() {
  const { state } = useStore(connection);
  return (
    <>
      <span class={`live live-${state}`} role="status">
        <span class="live-dot" aria-hidden="true" />
        {LIVE_WORDS[state]}
      </span>
      <button
        type="button"
        class="button button-icon"
        aria-pressed={state === 'paused'}
        aria-label="Pause updates"
        title={state === 'paused' ? 'Updates are paused: go on' : 'Pause updates'}
        onClick={() => setPaused(state !== 'paused')}
      >
        <Icon name={state === 'paused' ? 'resume' : 'pause'} />
      </button>
    </>
  );
}

const NEXT_THEME = { auto: 'light', light: 'dark', dark: 'auto' } as const satisfies Record<Theme, Theme>;
const THEME_ICON = { auto: 'auto', light: 'sun', dark: 'moon' } as const;
const THEME_WORDS = { auto: 'as the system says', light: 'light', dark: 'dark' } as const;

function ThemeSwitch() {
  const current = useStore(theme);
  const words = `Colours: ${THEME_WORDS[current]}`;
  return (
    <button
      type="button"
      class="button button-icon"
      aria-label={words}
      title={words}
      onClick={() => setTheme(NEXT_THEME[current])}
    >
      <Icon name={THEME_ICON[current]} />
    </button>
  );
}

function Outage() {
  const { state, error, sinceMs } = useStore(connection);
  const nowMs = useNow();
  if (state !== 'gone') return null;
  const lastedMs = Math.floor(Math.max(0, nowMs - sinceMs) / 1000) * 1000;
  return (
    <section class="outage" aria-label="Connection to the server">
      <Icon name="warning" />
      <span>
        <span role="alert">
          <strong>The server does not answer</strong>: {error?.message}.
        </span>{' '}
        What is shown is from before{lastedMs > 0 && ` (${duration(lastedMs)} ago)`}; this page tries again by itself.
      </span>
      <button type="button" class="button" onClick={refreshAll}>
        <Icon name="retry" />
        Try now
      </button>
    </section>
  );
}
