/**
 * What RabbitMQ cannot do, by behaviour: most of it for want of a memory, which `store` gives. Where a behaviour needs to look
 * at tasks to be checked, what it is about is tested in test/amqp.
 */
const NO_LOOKING = 'a broker does not let one look at its messages; set `store`';
const OWN_RESULTS = 'only the client that enqueued a task hears of its end; set `store`';
const NO_CANCEL = 'a broker cannot find one message among others; set `store`';
const NO_RETRY = 'a broker cannot find one message among others; set `store`';
const NO_PAUSE = 'nobody would tell the other workers; set `store`';
const NO_RETENTION = 'nothing is retained of what has ended; set `store`';
const NO_COUNTS = 'a broker counts what is ready, of queues that one names; set `store`';
const PURGES_READY = 'what waits in the delay ladder cannot be told apart by queue; set `store`';
const NO_RELATIONS = 'a broker does not know what has ended, so nothing can wait for it; set `store`';
const NO_UNIQUENESS = 'a broker does not know which tasks wait; set `store`';
const ANY_ID = 'other programs give their tasks any id, so no text is none';
const NO_SCHEDULES = 'nobody would remember them and fire them; set `store`';
const PREFETCHED = 'prefetch is granted for each band, so a low task may be there before the next of the normal ones';
const AS_IT_COMES =
  'while a worker hands tasks back the broker may give it the next ones: they stand in the order in which they come back';
const BY_ONE = 'a broker delivers message by message: which of them come together is a matter of time';

const NO_LIMITS = 'a broker hands out messages by itself, to each worker as many as that asks for';
const NO_REPORTS = 'a broker remembers nothing of those who work; set `store`';
const NO_EVENTS = 'a broker tells nobody what becomes of its messages; set `store`';

function all(names: readonly string[], reason: string): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, reason]));
}

const BATCHES = all(
  [
    'what a batch handler throws fails every task that it had not failed itself',
    'a batch handler that returns too few results fails its tasks with that',
  ],
  BY_ONE,
);

const SCHEDULING = all(
  [
    'a schedule enqueues its task again and again, with its payload and options',
    'a cron expression with seconds fires by the second',
    'what is known of a schedule is told',
    'a schedule that is set again goes on, unless its times are what changes',
    'a paused schedule fires nothing until it is resumed, and a removed one nothing more',
    'runNow enqueues the task of a schedule, and its times stay',
    'the payload of a schedule is checked by its task’s schema, and may be bytes',
    'schedules are found again after everything was closed and opened',
    'of the times that were missed while everything was closed, once fires one task and all a task for each',
    'a schedule that cannot be is refused, naming what is wrong',
    'a schedule at its bounds is taken, and beyond them its payload is not',
    'the tasks of a schedule have its headers',
  ],
  NO_SCHEDULES,
);

const LIMITING = all(
  [
    'status says what holds a queue up',
    'no more tasks of a queue run at the same time than its concurrency, over all workers',
    'a limited queue does not hold up others of the same worker',
    'tasks are handed out no faster than the rate of their queue',
    'limits are changed and lifted while tasks wait',
    'tasks of different keys take turns, so that a long backlog of one does not hold up another',
    'a higher priority goes first, whatever its key',
    'no more tasks of one key run at the same time than the queue says',
    'a key that fails its tasks does not lose its turn, and counts none of them twice',
    'limits and keys are found again after everything was closed and opened',
    'a queue takes no more unfinished tasks than its length, and says how many it has room for',
    'calls of one turn are refused one by one, those that do not fit, and nothing of other queues',
    'a unique task that exists takes no room, however full its queue is',
    'what is retried or redriven is taken beyond the length of its queue',
    'a limit or key outside its bounds is refused, and changes nothing',
  ],
  NO_LIMITS,
);

const WATCHING = all(
  [
    'the life of a task is told in order, with its attempts',
    'progress is told while the task runs',
    'a task is told to have started before its progress is, however soon it tells of that',
    'a task that used its attempts is told as failed, then as dead',
    'cancelled and purged tasks are told as cancelled',
    'only the events of the queue, or of the task, are told',
    'the tasks of a large batch are told one by one',
    'a reader that does not keep up is told how much it missed, and holds nobody up',
    'those of one enqueueMany wait for their reader as one event',
    'a loop over events ends when it is left, and when the client is closed',
    'events that nobody could mean are refused, and more streams than a client may have',
  ],
  NO_EVENTS,
);

const SEARCHING = {
  ...all(
    [
      'the newest tasks come first when that is asked for, once each over the pages',
      'tasks are found by text in their newest error, whatever its case',
      'queue and state of a task are told without the rest',
      'tasks are found by when they were enqueued',
      'the tasks that a worker runs are found by its id, with when they began',
      'a failed attempt says who ran it, and since when',
      'status says of each worker which release it is of, and how long it has been silent',
      'dead tasks are grouped by what they died of, and a group is found and retried',
    ],
    NO_LOOKING,
  ),
  ...all(
    [
      'many dead tasks are retried at once, those that the filter names',
      'scheduled tasks are among those that are retried',
    ],
    NO_RETRY,
  ),
  ...all(
    [
      'many tasks are cancelled at once, those that wait and those that run, and those who wait for them are told',
      'what depends on tasks that are cancelled together is cancelled with them',
      'very many tasks are changed in steps',
      'a filter that names nothing, or what cannot be, changes nothing',
      'what was retried and cancelled together is found so after everything was closed and opened',
    ],
    NO_CANCEL,
  ),
};

export const WITHOUT_STORE: Record<string, string> = {
  ...BATCHES,
  ...LIMITING,
  ...SEARCHING,
  ...SCHEDULING,
  ...WATCHING,
  ...all(
    [
      'the options of a definition hold for its tasks, and those of an enqueue go before them',
      'a task without options has the documented defaults',
      'enqueueMany gives an id for each payload, in their order',
      'enqueueMany of nothing is a batch of nothing',
      'enqueues of one turn keep their order, whatever their names and queues',
      'one enqueueMany of more than a frame or a batch holds is refused, and nothing of it is enqueued',
      'a payload that JSON cannot hold is refused, and the client goes on',
      'a schema checks what is enqueued and gives the handler what it makes of it',
      'a result of exactly the limit is kept, and a larger one ends its task dead at once',
      'a result that JSON cannot hold ends its task dead at once',
      'a schema checks what a handler returns, and result() gives what it makes of it',
      'a delayed task is scheduled, and starts no sooner than its delay',
      'a task with runAt starts no sooner than that moment, given as a Date or a number',
      'a whole batch can be delayed',
      'a task that fails runs again with its attempt counted until it succeeds',
      'a task that has used its attempts is dead and keeps its errors',
      'the last errors of many attempts are kept',
      'headers are seen when a task is looked at, and are no part of its payload',
      'a fixed backoff is the same each time, an exponential one doubles up to its bound',
      'jitter draws each pause from the upper half of what it would be',
      'a final error makes the task dead at once',
      'RetryLater sets the pause before the next attempt, which counts',
      'RetryLater on the last attempt makes the task dead',
      'whatever a handler throws fails its attempt with something readable',
      'a task whose name the worker does not know fails with NO_HANDLER, and the worker goes on',
      'an attempt that runs past its timeoutMs is aborted and counted, and the next one runs',
      'what a handler returns after its timeout is ignored, and its slot is free meanwhile',
      'progress is seen while the task runs',
      'progress may come with words, and the last one counts',
      'a log is seen while its task runs, and after it has ended, with the attempt of each line',
      'a task that logs nothing has no log',
      'the last lines of a log are kept and the earlier ones counted, and a long line is cut',
      'a batch handler tells of each of its tasks',
      'a task that pauses between two attempts is cancelled at once',
      'tasks are listed once each over the pages, by queue, name and state',
      'stop() resolves although a handler never ends; its task is aborted and handed back uncharged',
      'what runs and completes while the worker stops is durable when stop() resolves',
      'a batch handler can fail some of its tasks',
      'a payload that is not JSON ends its own task only',
      'whatever is asked of a closed client rejects with CLOSED',
      'close() resolves although a handler never ends, and its task goes back uncharged',
      'failed attempts count on after everything was closed and opened',
      'an option outside its bounds is refused, naming the value and the bound',
      'options at their bounds are taken',
      'what is of the wrong kind altogether is refused with INVALID_ARGUMENT, and does nothing',
      'more names and queues than anyone has are kept apart',
    ],
    NO_LOOKING,
  ),
  ...all(
    [
      'result() asked for before the end and after it is the same, for everyone who asks',
      'the result of a task that nobody enqueued rejects with NOT_FOUND',
      'results and errors are found again after everything was closed and opened',
      'a task that ran when everything was closed runs again uncharged',
    ],
    OWN_RESULTS,
  ),
  ...all(
    [
      'the result of a cancelled task rejects with TASK_CANCELLED, for those who wait and those who ask later',
      'a task that waits is cancelled at once and never runs',
      'a scheduled task is cancelled at once',
      'the handler of a running task is told, and the task is cancelled when it gives up',
      'a running task whose handler finishes nevertheless is completed',
      'a task that a worker holds and has not started is cancelled and never runs',
      'a task that was cancelled while it failed is not tried again',
      'a task that has ended cannot be cancelled',
      'tasks of every state are found again after everything was closed and opened',
    ],
    NO_CANCEL,
  ),
  ...all(
    [
      'what a supervisor of workers says last is in status, for as long as it goes on saying it',
      'a report of a supervisor that cannot be is refused',
    ],
    NO_REPORTS,
  ),
  ...all(['text that is no id is refused with INVALID_ARGUMENT'], ANY_ID),
  ...all(['a task that was handed back is the first again'], AS_IT_COMES),
  ...all(['a task of higher priority that comes later starts before those that wait'], PREFETCHED),
  ...all(
    [
      'a scheduled task that is retried starts now',
      'a dead task that is retried runs with fresh attempts and keeps its errors',
      'only dead and scheduled tasks can be retried',
    ],
    NO_RETRY,
  ),
  ...all(
    [
      'redrive makes all dead tasks of one queue ready again',
      'status names the workers with what they do',
      'a worker holds no more tasks than its prefetch says',
      'stop() waits for what runs and hands back what did not start, uncharged',
      'enqueues that were not awaited are durable when close() resolves',
      'names of the longest kind, with any letters, work',
    ],
    NO_COUNTS,
  ),
  ...all(
    [
      'a paused queue starts nothing while others go on, and takes enqueues',
      'what runs when its queue is paused goes on',
      'the counts of a queue are those of its tasks',
      'pauses, retention and totals are found again after everything was closed and opened',
    ],
    NO_PAUSE,
  ),
  ...all(
    [
      'purge removes what waits, ends those who wait for it, and leaves what runs',
      'a queue that was never used cannot be resumed, purged, redriven or looked at',
    ],
    PURGES_READY,
  ),
  ...all(
    [
      'retention by count keeps the newest ended tasks',
      'retention by age forgets ended tasks that are older',
      'a result that is waited for arrives even when nothing is retained',
    ],
    NO_RETENTION,
  ),
  ...all(
    [
      'a task starts when all that it depends on have completed, and reads their results',
      'what has completed already counts',
      'a task without dependencies has no parents',
      'a flow is submitted whole: a diamond over two queues runs in its order',
      'a chain runs one after the other',
      'a fan-out of 10,000 and its fan-in end, with all results',
      'a task whose parent dies or is cancelled is cancelled, and so is what depends on that',
      'a task that is to run all the same sees that its parent died, and why',
      'a task that is to wait for a redrive stays blocked until its parent is retried and completes',
      'a blocked task can be cancelled, and its parents go on',
      'a purge of the parents’ queue ends what depends on them',
      'a purge takes what is blocked too',
      'a delay of a task that depends on others counts from its enqueue',
      'parents are retained for as long as somebody depends on them',
      'what does not exist, a circle, or the same task twice is refused, and nothing is enqueued',
      'a batch tells how far it is, and its callback runs when all have ended',
      'dependencies are found again after everything was closed and opened',
      'each task of a flow has its own headers',
    ],
    NO_RELATIONS,
  ),
  ...all(
    [
      'a second enqueue with the same unique key gives the first task, and says so',
      'by default a key is free again when its task has ended, however it ended',
      'a key for while its task waits is free when that has started',
      'a key for a time is held though its task has ended, and free afterwards',
      'unique tasks of one flow find each other, and can be depended on',
      'unique keys are held after everything was closed and opened',
      'a unique key outside its bounds is refused',
    ],
    NO_UNIQUENESS,
  ),
};

export const WITH_STORE: Record<string, string> = {
  ...BATCHES,
  ...LIMITING,
  'those of one enqueueMany wait for their reader as one event': 'their ids are texts, of which none follows another',
  'text that is no id is refused with INVALID_ARGUMENT': ANY_ID,
  'tasks are listed once each over the pages, by queue, name and state': ANY_ID,
  'a task of higher priority that comes later starts before those that wait': PREFETCHED,
  'a task that was handed back is the first again': AS_IT_COMES,
};
