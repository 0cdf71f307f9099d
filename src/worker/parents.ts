import type { Broker, ParentOutcome } from '../broker/contract.ts';
import { checkNotSealed } from '../sealing/sealing.ts';
import type { Parent } from '../task/handler.ts';

/** All that a task depends on, page by page. Rejects with KEY_MISSING for results that are encrypted still. */
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
  return { id, name, state, result: result === undefined ? undefined : decode(id, result), error };
}

/** The definition of another task is not known here: what is no JSON is passed on as it is. */
function decode(id: string, { encoding, data, keyId }: NonNullable<ParentOutcome['result']>): unknown {
  if (encoding === 'base64') {
    const bytes = new Uint8Array(Buffer.from(data, 'base64'));
    if (keyId === undefined) checkNotSealed(bytes, `the result of task ${id}`);
    return bytes;
  }
  try {
    return JSON.parse(data);
  } catch {
    return new Uint8Array(Buffer.from(data));
  }
}
