import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where a process spent its time: V8's sampling profile, by function. */
export interface ProfileSummary {
  /** As the file is called: the row and the process. */
  name: string;
  /** Without what it slept. */
  busyMs: number;
  idleMs: number;
  top: { place: string; selfMs: number; share: number }[];
}

interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
}

const EXTENSION = '.cpuprofile';
const TOP_COUNT = 15;

export function summarizeProfiles(directory: string): ProfileSummary[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(EXTENSION))
    .sort()
    .map((name) => summarize(basename(name, EXTENSION), JSON.parse(readFileSync(join(directory, name), 'utf8'))));
}

function summarize(name: string, { nodes, samples, timeDeltas }: CpuProfile): ProfileSummary {
  const placeOf = new Map(nodes.map(({ id, callFrame }) => [id, describePlace(callFrame)]));
  const selfUs = new Map<string, number>();
  for (const [index, id] of samples.entries()) {
    const place = placeOf.get(id) ?? '';
    selfUs.set(place, (selfUs.get(place) ?? 0) + timeDeltas[index]);
  }
  const idleUs = selfUs.get('(idle)') ?? 0;
  selfUs.delete('(idle)');
  const busyUs = [...selfUs.values()].reduce((sum, us) => sum + us, 0);
  const top = [...selfUs]
    .sort(([, a], [, b]) => b - a)
    .slice(0, TOP_COUNT)
    .map(([place, us]) => ({ place, selfMs: us / 1000, share: us / busyUs }));
  return { name, busyMs: busyUs / 1000, idleMs: idleUs / 1000, top };
}

const ROOT = fileURLToPath(new URL('..', import.meta.url));

function describePlace({ functionName, url, lineNumber }: CpuProfile['nodes'][number]['callFrame']): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  const file = url.startsWith('file:') ? fileURLToPath(url) : url;
  return `${name} ${file.startsWith(ROOT) ? file.slice(ROOT.length) : file}:${lineNumber + 1}`;
}
