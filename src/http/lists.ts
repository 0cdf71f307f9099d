import { z } from '@hono/zod-openapi';

/** What is said of what is wrong with a request. */
export const ISSUES_MAX = 20;

/** Those that lists name, for the description of the API. */
export const LISTED = new Map<string, z.ZodType>();

/**
 * A list of these, which are looked at until enough is wrong: a list that is wrong from its first item to its last would take
 * the time of everybody else, and no more would be said of it. `name` is that of an item in the description of the API.
 */
export function listOf<Item extends z.ZodType>(
  name: string,
  item: Item,
  { min, max }: { readonly min?: number; readonly max: number },
) {
  LISTED.set(name, item);
  const bounded = z.array(z.unknown()).max(max);
  return (min === undefined ? bounded : bounded.min(min))
    .transform((items, context): z.output<Item>[] => {
      const values: z.output<Item>[] = [];
      for (const [index, given] of items.entries()) {
        const result = item.safeParse(given);
        if (result.success) values.push(result.data);
        else {
          for (const issue of result.error.issues.slice(0, ISSUES_MAX)) {
            const path = [index, ...issue.path];
            // What was found is raised again as it is; the types of the two have their inputs apart.
            context.issues.push({ ...issue, input: given, path } as z.core.$ZodRawIssue);
          }
        }
        if (context.issues.length >= ISSUES_MAX) break;
      }
      return values;
    })
    .openapi({ items: { $ref: `#/components/schemas/${name}` } });
}

/** Texts by name, of which there are at most so many, which is looked at first. */
export function textsOf(what: string, countMax: number) {
  return z
    .unknown()
    .superRefine((given, context) => {
      const count = typeof given === 'object' && given !== null ? Object.keys(given).length : 0;
      if (count <= countMax) return;
      context.addIssue({ code: 'custom', message: `${count} ${what} are given; at most ${countMax} are allowed` });
    })
    .pipe(z.record(z.string(), z.string()))
    .openapi({ type: 'object', additionalProperties: { type: 'string' } });
}
