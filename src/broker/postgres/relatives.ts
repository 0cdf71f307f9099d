import { checkInteger, LIMITS } from '../../limits.ts';
import { encodeBytes } from '../../protocol/encoded-bytes.ts';
import type { OnParentFailure, ParentOutcome, ParentPage, TaskInfo, TaskState } from '../contract.ts';
import type { Database } from './database.ts';
import type { Row } from './lane.ts';
import { EDGE_ENDS, ON_FAILURE } from './relations-schema.ts';
import { STATE } from './schema.ts';
import { failuresOf, notFound, STATE_NAME } from './task-rows.ts';

type Dependencies = NonNullable<TaskInfo['dependencies']>;

const ON_FAILURE_NAMES = Object.keys(ON_FAILURE) as OnParentFailure[];

/** What a task depends on, and what depends on it; `dependencies` with the counts. Two looks: it may change in between. */
export async function readRelatives(
  database: Database,
  id: string,
  dependencies: Dependencies | undefined,
): Promise<Pick<TaskInfo, 'dependencies' | 'children'>> {
  const [parents, children] = await Promise.all([
    dependencies === undefined ? [] : database.query('durable', PARENTS_SHOWN, [id, LIMITS.relationsShownMax]),
    database.query('durable', CHILDREN_SHOWN, [id, LIMITS.relationsShownMax]),
  ]);
  const total = (children[0]?.total as number | undefined) ?? 0;
  return {
    ...(dependencies === undefined ? {} : { dependencies: { ...dependencies, parents: parents.map(shownParent) } }),
    ...(total === 0 ? {} : { children: { total, ids: children.map((row) => row.child as string) } }),
  };
}

/** As the contract's. Rejects NOT_FOUND, INVALID_ARGUMENT. */
export async function readParents(database: Database, id: string, from: number): Promise<ParentPage> {
  checkInteger('from', from, 0, Number.MAX_SAFE_INTEGER);
  const bounds = [LIMITS.parentPageTasksMax, LIMITS.parentPageBytesMax];
  const rows = await database.query('durable', PARENTS, [id, Math.min(from, LIMITS.dependenciesMax), ...bounds]);
  const [first] = rows;
  if (first === undefined) throw notFound(id);
  // Depends on nothing, or on no more.
  if (first.parent === null) return { parents: [] };
  const parents = rows.map(outcomeOf);
  const next = (rows.at(-1)?.ordinal as number) + 1;
  return next < (first.total as number) ? { parents, next } : { parents };
}

function shownParent(row: Row): NonNullable<Dependencies['parents']>[number] {
  return {
    id: row.parent as string,
    state: (row.state_name as TaskState | null) ?? 'unknown',
    onFailure: ON_FAILURE_NAMES[row.on_failure as number] as OnParentFailure,
  };
}

function outcomeOf(row: Row): ParentOutcome {
  const id = row.parent as string;
  if (row.state === null) return { id, name: '', state: 'unknown' };
  const result = row.state === STATE.COMPLETED ? (row.result as Buffer | null) : null;
  const error = row.state === STATE.DEAD ? failuresOf(row.failures).at(-1)?.error : undefined;
  return {
    id,
    name: row.name as string,
    state: row.state_name as TaskState,
    ...(result === null ? {} : { result: encodeBytes(result) }),
    ...(error === undefined ? {} : { error }),
  };
}

/** Of the task `t`, null when it depends on nothing. */
export const DEPENDENCIES = `(SELECT json_build_object('total', count(*), ${EDGE_ENDS.map(
  (name, number) => `'${name}', count(*) FILTER (WHERE ended = ${number})`,
).join(', ')}) FROM edges WHERE child = t.id HAVING count(*) > 0)`;

const PARENTS_SHOWN = `
SELECT e.parent, e.on_failure, ${STATE_NAME('p')} AS state_name FROM edges e LEFT JOIN tasks p ON p.id = e.parent
WHERE e.child = $1 ORDER BY e.ordinal LIMIT $2::integer`;

const CHILDREN_SHOWN = `
SELECT e.child, count(*) OVER ()::integer AS total FROM edges e JOIN tasks c ON c.id = e.child
WHERE e.parent = $1 AND c.state IN (0, 1, 5) ORDER BY c.seq LIMIT $2::integer`;

const PARENTS = `
SELECT d.total, s.ordinal, s.parent, s.state, s.state_name, s.name, s.result, array_to_json(s.failures) AS failures
FROM tasks t LEFT JOIN dependents d ON d.child = t.id LEFT JOIN LATERAL (
  SELECT * FROM (
    SELECT e.ordinal, e.parent, p.state, ${STATE_NAME('p')} AS state_name, k.name, p.result,
           CASE WHEN p.state = 3 THEN p.failures[cardinality(p.failures):] END AS failures,
           sum(octet_length(p.result)) OVER w AS bytes, row_number() OVER w AS place
    FROM edges e LEFT JOIN tasks p ON p.id = e.parent LEFT JOIN kinds k ON k.no = p.kind_no
    WHERE e.child = t.id AND e.ordinal >= $2::integer AND e.ordinal < $2::integer + $3::integer
    WINDOW w AS (ORDER BY e.ordinal)
  ) o WHERE place = 1 OR bytes IS NULL OR bytes <= $4::integer
) s ON true
WHERE t.id = $1 ORDER BY s.ordinal`;
