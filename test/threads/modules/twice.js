import { defineTask } from 'millrace';

const task = defineTask('twice');
export const one = task.handle(() => 1);
export const two = task.handle(() => 2);
