export type { Tracing } from '../task/tracing.ts';
export { tracing } from './tracing.ts';
