import type { Broker, ParentOutcome } from '../broker/contract.ts';
import type { Parent } from '../task/handler.ts';

/** All that a task depends on, page by page. */
export async function readParents(broker: Broker, id: string): Promise<Parent[]> {
  const parents: Parent[] = [];
  let from: number | undefined = 0;
  while (from !== undefined) {
    const page: Awaited<ReturnType<Broker['parents']>> = await broker.parents(id, from);
    for (const parent of page.parents) parents.push(read(parent));
    from = page.next;
  }
  return parents;
}

function read({ id, name, state, result, error }: ParentOutcome): Parent {
  return { id, name, state, result: result === undefined ? undefined : decode(result), error };
}

/** The definition of another task is not known here: what is no JSON is passed on as it is. */
function decode({ encoding, data }: NonNullable<ParentOutcome['result']>): unknown {
  if (encoding === 'base64') return new Uint8Array(Buffer.from(data, 'base64'));
  try {
    return JSON.parse(data);
  } catch {
    return new Uint8Array(Buffer.from(data));
  }
}
