import type { Client, TaskInfo } from '../../src/index.ts';

type Filter = NonNullable<Parameters<Client['tasks']['list']>[0]>;

/** All tasks that the filter names, page after page. */
export async function pages(client: Client, filter: Filter): Promise<TaskInfo[]> {
  const tasks: TaskInfo[] = [];
  let after: string | undefined;
  do {
    const page = await client.tasks.list({ ...filter, after });
    tasks.push(...page.tasks);
    after = page.next;
  } while (after !== undefined);
  return tasks;
}
