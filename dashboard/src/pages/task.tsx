import { post } from '../api/client.ts';
import { usePoll } from '../api/live.ts';
import type { TaskInfo } from '../api/types.ts';
import { FlowPanel } from '../flow/flow-graph.tsx';
import { bytes, count, duration, share } from '../format.ts';
import { Action } from '../parts/action.tsx';
import { Content } from '../parts/content.tsx';
import { act, ask } from '../parts/dialog.tsx';
import { Fact } from '../parts/fact.tsx';
import { StateBadge } from '../parts/state.tsx';
import { Failure, Loading, Panel } from '../parts/states.tsx';
import { Time, useNow } from '../parts/time.tsx';
import { href, route } from '../route.ts';
import { useStore } from '../store.ts';

const RUNNING_POLL_MS = 1000;
const ENDED_POLL_MS = 5000;

const isEnded = ({ state }: TaskInfo): boolean => state === 'completed' || state === 'dead' || state === 'cancelled';
const pace = (task: TaskInfo): number => (isEnded(task) ? ENDED_POLL_MS : RUNNING_POLL_MS);

export function Task() {
  const id = useStore(route).argument;
  const { data, error, refresh } = usePoll<TaskInfo>(`v1/tasks/${encodeURIComponent(id)}`, pace);
  if (error !== undefined && (data === undefined || !error.isOutage)) {
    return (
      <>
        <h1>Task {id}</h1>
        <Failure error={error} onRetry={refresh} />
        {error.code === 'NOT_FOUND' && (
          <p class="muted">
            Ended tasks are kept for as long as their queue’s retention says. <a href="#/tasks">All tasks</a>
          </p>
        )}
      </>
    );
  }
  return data === undefined ? <Loading /> : <TaskView task={data} refresh={refresh} />;
}

function TaskView({ task, refresh }: { task: TaskInfo; refresh: () => void }) {
  const { id, name, state, progress, failures, log, result, dependencies, children } = task;
  const hasMore = state === 'completed' || task.headers !== undefined || log !== undefined;
  return (
    <>
      <div class="page-head">
        <h1>{name}</h1>
        <StateBadge state={state} />
        {task.cancelRequested && <span class="tag">asked to end</span>}
        <span class="mono muted">{id}</span>
        <TaskActions task={task} refresh={refresh} />
      </div>
      {progress !== undefined && <Progress progress={progress} />}
      <Facts task={task} />
      {failures.length > 0 && <Failures failures={failures} maxAttempts={task.maxAttempts} />}
      <div class="columns">
        <Panel title="Payload" aside={<span class="muted">{bytes(task.payloadBytes)}</span>}>
          <Payload task={task} />
        </Panel>
        {hasMore && (
          <div class="stack">
            {result !== undefined ? (
              <Panel title="Result">
                <Content label="result" file={`${id}-result`} content={result} />
              </Panel>
            ) : (
              state === 'completed' && <NoResult isHidden={task.payloadHidden === true} />
            )}
            <Headers headers={task.headers} />
            {log !== undefined && <Log log={log} />}
          </div>
        )}
      </div>
      {(dependencies !== undefined || children !== undefined) && <FlowPanel key={id} id={id} />}
    </>
  );
}

function TaskActions({ task, refresh }: { task: TaskInfo; refresh: () => void }) {
  const { id, name, state } = task;
  const address = `v1/tasks/${encodeURIComponent(id)}`;
  const canRetry = state === 'dead' || state === 'scheduled';
  return (
    <span class="actions">
      <Action
        icon="retry"
        label={state === 'scheduled' ? 'Run now' : 'Retry'}
        refusal={canRetry ? undefined : `Only dead and scheduled tasks can be retried; this one is ${state}.`}
        onAct={async () => {
          await act(() => post(`${address}/retry`), `${name} is ready again.`);
          refresh();
        }}
      />
      <Action
        icon="cancel"
        label="Cancel"
        isDanger
        refusal={isEnded(task) ? `It has ended: ${state}.` : undefined}
        onAct={async () =>
          ask({
            title: 'Cancel 1 task?',
            text: (
              <>
                <p class="quote">
                  {name} {id}
                </p>
                <p>{state === 'active' ? 'It runs: its handler is asked to end.' : 'It will not run.'}</p>
              </>
            ),
            action: 'Cancel it',
            isDanger: true,
            run: async () => {
              const { outcome } = await post<{ outcome: 'cancelled' | 'requested' }>(`${address}/cancel`);
              refresh();
              return outcome === 'cancelled' ? `${name} is cancelled.` : `${name} was asked to end.`;
            },
          })
        }
      />
    </span>
  );
}

function Progress({ progress: { value, message } }: { progress: NonNullable<TaskInfo['progress']> }) {
  const isShare = typeof value === 'number' && value >= 0 && value <= 1;
  return (
    <div class="progress">
      {isShare ? (
        <>
          <progress value={value} max={1} aria-label="Progress" />
          <span>{share(value)}</span>
        </>
      ) : (
        value !== undefined && value !== null && <code>{JSON.stringify(value)}</code>
      )}
      {message !== undefined && <span class="muted">{message}</span>}
    </div>
  );
}

function Facts({ task }: { task: TaskInfo }) {
  const { queue, priority, attempt, maxAttempts, timeoutMs, enqueuedAtMs, startedAtMs, finishedAtMs, runAtMs } = task;
  return (
    <dl class="facts">
      <Fact label="Queue">
        <a href={href('queues', { filter: queue })}>{queue}</a>
      </Fact>
      <Fact label="Attempt">
        {count(attempt)} of {count(maxAttempts)}
      </Fact>
      <Fact label="Priority">{priority}</Fact>
      <Fact label="Enqueued">
        <Time atMs={enqueuedAtMs} />
      </Fact>
      {runAtMs !== undefined && (
        <Fact label="Due">
          <Time atMs={runAtMs} />
        </Fact>
      )}
      {startedAtMs !== undefined && (
        <Fact label="Started">
          <Time atMs={startedAtMs} /> <span class="muted">after {duration(startedAtMs - enqueuedAtMs)}</span>
        </Fact>
      )}
      {finishedAtMs !== undefined ? (
        <Fact label="Ended">
          <Time atMs={finishedAtMs} />{' '}
          <span class="muted">
            {startedAtMs === undefined
              ? `after ${duration(finishedAtMs - enqueuedAtMs)}`
              : `ran ${duration(finishedAtMs - startedAtMs)}`}
          </span>
        </Fact>
      ) : (
        startedAtMs !== undefined && (
          <Fact label="Runs for">
            <Running sinceMs={startedAtMs} />
          </Fact>
        )
      )}
      {task.worker !== undefined && (
        <Fact label="Worker">
          {task.workerId === undefined ? (
            task.worker
          ) : (
            <a href={href('tasks', { state: 'active', worker: task.workerId })}>{task.worker}</a>
          )}
        </Fact>
      )}
      <Fact label="Timeout">{duration(timeoutMs)}</Fact>
      {task.uniqueKey !== undefined && (
        <Fact label="Unique key">
          <code>{task.uniqueKey}</code>
        </Fact>
      )}
      {task.dependencies !== undefined && (
        <Fact label="Depends on">
          {count(task.dependencies.total)}
          <span class="muted">
            {' '}
            ({count(task.dependencies.open)} open, {count(task.dependencies.completed)} completed,{' '}
            {count(task.dependencies.dead)} dead)
          </span>
        </Fact>
      )}
      {task.children !== undefined && <Fact label="Waited for by">{count(task.children.total)}</Fact>}
    </dl>
  );
}

function Running({ sinceMs }: { sinceMs: number }) {
  return <>{duration(Math.floor(Math.max(0, useNow() - sinceMs) / 1000) * 1000)}</>;
}

function Failures({ failures, maxAttempts }: { failures: TaskInfo['failures']; maxAttempts: number }) {
  return (
    <Panel title="Failed attempts" aside={<span class="muted">the newest first; {count(maxAttempts)} allowed</span>}>
      <ol class="failures">
        {failures.toReversed().map(({ attempt, atMs, error, worker, startedAtMs }, index) => (
          <li key={`${attempt} ${atMs}`}>
            <p class="failure-head">
              <strong>Attempt {count(attempt)}</strong>
              <span class="tag">{error.code}</span>
              <span class="muted">
                <Time atMs={atMs} />
                {startedAtMs !== undefined && ` after ${duration(atMs - startedAtMs)}`}
                {worker !== undefined && ` on ${worker}`}
              </span>
            </p>
            <p class="failure-text">
              {error.name}: {error.message}
            </p>
            {isStack(error.stack) && (
              <details open={index === 0}>
                <summary>Stack</summary>
                {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
                <pre class="code" tabIndex={0}>
                  {error.stack}
                </pre>
              </details>
            )}
          </li>
        ))}
      </ol>
    </Panel>
  );
}

/** One that is encrypted says nothing here. */
function isStack(stack: string | undefined): stack is string {
  return stack !== undefined && !stack.startsWith('encrypted:');
}

function Payload({ task: { id, payload, payloadBytes, payloadHidden } }: { task: TaskInfo }) {
  if (payload !== undefined) return <Content label="payload" file={`${id}-payload`} content={payload} />;
  const words = payloadHidden ? HIDDEN : payloadBytes === 0 ? 'It is empty.' : 'It is no longer kept.';
  return <p class="muted panel-text">{words}</p>;
}

const HIDDEN = 'This server does not show payloads and results.';

function NoResult({ isHidden }: { isHidden: boolean }) {
  return (
    <Panel title="Result">
      <p class="muted panel-text">{isHidden ? HIDDEN : 'It returned nothing.'}</p>
    </Panel>
  );
}

function Headers({ headers }: { headers: Record<string, string> | undefined }) {
  if (headers === undefined) return null;
  return (
    <Panel title="Headers">
      <dl class="facts facts-list">
        {Object.entries(headers).map(([name, value]) => (
          <Fact key={name} label={name}>
            <code>{value}</code>
          </Fact>
        ))}
      </dl>
    </Panel>
  );
}

function Log({ log: { lines, dropped } }: { log: NonNullable<TaskInfo['log']> }) {
  return (
    <Panel title="Log" aside={dropped > 0 && <span class="muted">{count(dropped)} earlier lines are gone</span>}>
      <ol class="log">
        {lines.map(({ atMs, attempt, text }, index) => (
          <li key={index}>
            <span class="muted">
              <Time atMs={atMs} /> <span title={`attempt ${attempt}`}>#{attempt}</span>
            </span>{' '}
            {text}
          </li>
        ))}
      </ol>
    </Panel>
  );
}
