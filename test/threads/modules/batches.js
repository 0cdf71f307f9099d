import { defineTask } from 'millrace';

export const squares = defineTask('squares').handleBatch(
  (batch) => {
    if (batch.length > 1) batch.fail(1, new RangeError('the second one'));
    return batch.inputs.map((input) => ({ square: input * input, together: batch.length }));
  },
  { batchSize: 4 },
);

let inside = false;

/** What a module may export beside its handlers. */
export const tracing = {
  enqueue: () => {
    throw new Error('nothing is enqueued here');
  },
  attempt: () => ({
    run: (handler) => {
      inside = true;
      try {
        return handler();
      } finally {
        inside = false;
      }
    },
    completed: () => {},
    failed: () => {},
  }),
};
export const traced = defineTask('traced').handle(() => inside);
