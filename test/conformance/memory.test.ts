import { memory } from './backends.ts';
import { conformance } from './conformance.ts';

conformance(memory);
