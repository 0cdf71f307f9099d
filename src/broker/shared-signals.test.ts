import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { SharedSignals } from './shared-signals.ts';

test('any number of waits share one listener of their signal, and all end with it', () => {
  const ended: [string, unknown][] = [];
  const signals = new SharedSignals<string>((wait, reason) => ended.push([wait, reason]));
  const [controller, other] = [new AbortController(), new AbortController()];
  for (const wait of ['a', 'b', 'c']) signals.listen(controller.signal, wait);
  signals.listen(other.signal, 'other');
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(1);
  signals.forget(controller.signal, 'b');
  controller.abort('enough');
  expect(ended).toEqual([
    ['a', 'enough'],
    ['c', 'enough'],
  ]);
});

test('a signal that nobody waits with any more is not listened to', () => {
  const signals = new SharedSignals<string>(() => {});
  const { signal } = new AbortController();
  signals.listen(signal, 'a');
  signals.listen(signal, 'b');
  signals.forget(signal, 'a');
  expect(getEventListeners(signal, 'abort')).toHaveLength(1);
  signals.forget(signal, 'b');
  signals.forget(signal, 'b');
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});
