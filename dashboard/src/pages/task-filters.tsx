import { useEffect, useRef, useState } from 'preact/hooks';
import { stats } from '../api/stats.ts';
import { STATES } from '../parts/state.tsx';
import { go, href, replace, taskHref } from '../route.ts';
import { useStore } from '../store.ts';
import type { TaskQuery } from './task-filter.ts';

const TYPING_MS = 250;
const NO_SEARCH = 'This backend cannot search by it.';

/** Each field is a part of the address: a filtered list can be kept, and sent to somebody. */
export function TaskFilters({ query, canSearch }: { query: TaskQuery; canSearch: boolean }) {
  const queues = useStore(stats).data?.queues ?? [];
  const change = (part: TaskQuery): void => {
    const { after, before, ...rest } = query;
    replace(href('tasks', { ...rest, ...part }));
  };
  return (
    <search class="filters">
      <TextField label="Queue" value={query.queue} list="queue-names" onChange={(queue) => change({ queue })} />
      <datalist id="queue-names">
        {queues.slice(0, 1000).map(({ name }) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <label class="field">
        State
        <select value={query.state ?? ''} onChange={({ currentTarget }) => change({ state: currentTarget.value })}>
          <option value="">any</option>
          {STATES.map((state) => (
            <option key={state} value={state}>
              {state}
            </option>
          ))}
        </select>
      </label>
      <TextField label="Task name" value={query.name} onChange={(name) => change({ name })} />
      <TextField
        label="Error contains"
        value={query.error}
        refusal={canSearch ? undefined : NO_SEARCH}
        onChange={(error) => change({ error })}
      />
      <TimeField label="Enqueued from" value={query.from} canSearch={canSearch} onChange={(from) => change({ from })} />
      <TimeField label="until" value={query.to} canSearch={canSearch} onChange={(to) => change({ to })} />
      <label class="field">
        Order
        <select
          value={query.order ?? 'newest'}
          disabled={!canSearch}
          title={canSearch ? undefined : NO_SEARCH}
          onChange={({ currentTarget }) => change({ order: currentTarget.value === 'oldest' ? 'oldest' : undefined })}
        >
          <option value="newest">newest first</option>
          <option value="oldest">oldest first</option>
        </select>
      </label>
      <IdField />
      {query.worker !== undefined && (
        <Chip text={`with worker ${query.worker}`} onRemove={() => change({ worker: undefined })} />
      )}
      {query.errorGroup !== undefined && (
        <Chip text="of one group of errors" onRemove={() => change({ errorGroup: undefined })} />
      )}
    </search>
  );
}

interface TextFieldProps {
  label: string;
  value: string | undefined;
  list?: string;
  refusal?: string | undefined;
  onChange: (value: string | undefined) => void;
}

/** Tells of a change when nothing was typed for a moment. */
function TextField({ label, value = '', list, refusal, onChange }: TextFieldProps) {
  const [typed, setTyped] = useState(value);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <label class="field">
      {label}
      <input
        type="search"
        autocomplete="off"
        spellcheck={false}
        value={typed}
        list={list}
        disabled={refusal !== undefined}
        title={refusal}
        onInput={({ currentTarget: { value: text } }) => {
          setTyped(text);
          clearTimeout(timer.current);
          timer.current = setTimeout(() => onChange(text.trim() || undefined), TYPING_MS);
        }}
      />
    </label>
  );
}

interface TimeFieldProps {
  label: string;
  value: string | undefined;
  canSearch: boolean;
  onChange: (value: string | undefined) => void;
}

function TimeField({ label, value, canSearch, onChange }: TimeFieldProps) {
  return (
    <label class="field">
      {label}
      <input
        type="datetime-local"
        value={value === undefined ? '' : localInput(Number(value))}
        disabled={!canSearch}
        title={canSearch ? undefined : NO_SEARCH}
        onChange={({ currentTarget: { value: text } }) =>
          onChange(text === '' ? undefined : String(new Date(text).getTime()))
        }
      />
    </label>
  );
}

/** As `datetime-local` wants it: in the viewer's zone, without one. */
function localInput(atMs: number): string {
  const shifted = new Date(atMs - new Date(atMs).getTimezoneOffset() * 60_000);
  // The address may say anything.
  return Number.isNaN(shifted.getTime()) ? '' : shifted.toISOString().slice(0, 16);
}

function IdField() {
  const [id, setId] = useState('');
  return (
    <form
      class="field"
      onSubmit={(event) => {
        event.preventDefault();
        if (id.trim() !== '') go(taskHref(id.trim()));
      }}
    >
      <label>
        Go to task id
        <input
          type="search"
          autocomplete="off"
          spellcheck={false}
          placeholder="id, then Enter"
          value={id}
          onInput={({ currentTarget }) => setId(currentTarget.value)}
        />
      </label>
    </form>
  );
}

function Chip({ text, onRemove }: { text: string; onRemove: () => void }) {
  return (
    <span class="chip">
      {text}
      <button type="button" class="button-plain" aria-label={`No longer only ${text}`} onClick={onRemove}>
        ×
      </button>
    </span>
  );
}
