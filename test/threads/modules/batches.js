import { defineTask } from 'millrace';

export const squares = defineTask('squares').handleBatch(
  (batch) => {
    if (batch.length > 1) batch.fail(1, new RangeError('the second one'));
    return batch.inputs.map((input) => ({ square: input * input, together: batch.length }));
  },
  { batchSize: 4 },
);
