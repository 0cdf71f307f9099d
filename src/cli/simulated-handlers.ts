import { ANY_NAME } from '../worker/options.ts';
import { simulatedWork } from './simulated-work.ts';

/** The built-in handler as a module, for threads. What it is to do stands in the URL by which it is loaded. */
const asked = new URL(import.meta.url).searchParams;
const number = (name: string): number => Number(asked.get(name) ?? 0);

export default {
  [ANY_NAME]: simulatedWork({
    taskTimeMs: number('taskTimeMs'),
    taskCpuMs: number('taskCpuMs'),
    failRate: number('failRate'),
    deadRate: number('deadRate'),
  }),
};
