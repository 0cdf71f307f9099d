import type { Dependency, OnParentFailure, RelatedTask, Uniqueness } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { checkInteger, checkName, checkObject, LIMITS } from '../limits.ts';
import { checkKeys, type ParentRef, type RelationOptions } from './options.ts';

/** What an enqueue's options say of other tasks, checked. All throw INVALID_ARGUMENT. */
export type Relations = Pick<RelatedTask, 'dependsOn' | 'unique'>;

const ON_FAILURE: readonly unknown[] = ['cancel', 'run', 'wait'] satisfies OnParentFailure[];
const DEFAULT_ON_FAILURE: OnParentFailure = 'cancel';

/** Undefined when the task has to do with no other. `resolve` gives the place of a reference, or throws. */
export function resolveRelations<Ref>(
  options: RelationOptions<Ref> | undefined,
  resolve: (ref: Ref) => Dependency['on'],
): Relations | undefined {
  const { dependsOn, onParentFailure, uniqueKey } = options ?? {};
  checkOnFailure('onParentFailure', onParentFailure);
  if (onParentFailure !== undefined && dependsOn === undefined) {
    const message = `onParentFailure is ${shown(onParentFailure)}, and there is no parent: give dependsOn too`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  if (dependsOn === undefined && uniqueKey === undefined) return undefined;
  const refs = (dependsOn === undefined ? [] : Array.isArray(dependsOn) ? dependsOn : [dependsOn]) as ParentRef<Ref>[];
  if (refs.length > LIMITS.dependenciesMax) {
    const message = `dependsOn names ${refs.length} tasks; at most ${LIMITS.dependenciesMax} are allowed: put tasks between that gather some of them each`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { bound: LIMITS.dependenciesMax } });
  }
  const known = new Set<Dependency['on']>();
  const dependencies = refs.map((ref, index) => {
    const { task, onFailure } = partsOf(ref, index);
    const on = resolve(task);
    if (known.has(on)) throw new MillraceError('INVALID_ARGUMENT', `dependsOn names task ${shown(on)} twice`);
    known.add(on);
    return { on, onFailure: onFailure ?? onParentFailure ?? DEFAULT_ON_FAILURE };
  });
  return { dependsOn: dependencies, unique: uniqueKey === undefined ? undefined : resolveUnique(uniqueKey) };
}

/** The id of an earlier task. */
export function idOf(ref: unknown): string {
  const id = typeof ref === 'object' && ref !== null ? (ref as { id?: unknown }).id : ref;
  if (typeof id === 'string') return id;
  const message = `dependsOn takes tasks, or their ids, and not ${shown(ref)}: await the enqueue first, or use client.flow for tasks that are enqueued together`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

function partsOf<Ref>(ref: ParentRef<Ref>, index: number): { task: Ref; onFailure: OnParentFailure | undefined } {
  if (typeof ref !== 'object' || ref === null || !('task' in ref)) return { task: ref as Ref, onFailure: undefined };
  checkKeys(`dependsOn[${index}]`, ref, ['task', 'onFailure']);
  checkOnFailure(`onFailure of dependsOn[${index}]`, ref.onFailure);
  return { task: ref.task, onFailure: ref.onFailure };
}

function checkOnFailure(what: string, value: unknown): void {
  if (value === undefined || ON_FAILURE.includes(value)) return;
  throw new MillraceError('INVALID_ARGUMENT', `${what} is ${shown(value)}; allowed are "cancel", "run" and "wait"`);
}

function resolveUnique(unique: string | Uniqueness): Uniqueness {
  if (typeof unique === 'string') {
    checkName('uniqueKey', unique, LIMITS.uniqueKeyBytesMax);
    return { key: unique, scope: 'unfinished' };
  }
  checkObject('uniqueKey', unique);
  checkKeys('uniqueKey', unique, ['key', 'scope']);
  const { key, scope = 'unfinished' } = unique as Partial<Uniqueness>;
  checkName('uniqueKey.key', key, LIMITS.uniqueKeyBytesMax);
  if (scope === 'waiting' || scope === 'unfinished') return { key, scope };
  if (typeof scope !== 'object' || scope === null) {
    const message = `uniqueKey.scope is ${shown(scope)}; allowed are "waiting", "unfinished" and { forMs: number }`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  checkKeys('uniqueKey.scope', scope, ['forMs']);
  checkInteger('uniqueKey.scope.forMs', scope.forMs, 1, LIMITS.uniqueForMsMax);
  return { key, scope: { forMs: scope.forMs } };
}
