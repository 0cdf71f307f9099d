import { tcp } from './backends.ts';
import { conformance } from './conformance.ts';

conformance(tcp);
