import { file } from './backends.ts';
import { conformance } from './conformance.ts';

conformance(file);
