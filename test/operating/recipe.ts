import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Finished, RunningCommand } from '../support/command.ts';
import type { Kitchen } from './kitchen.ts';

/** A command of a recipe, and what the page shows of its output. */
interface Step {
  readonly command: string;
  readonly output: readonly string[];
}

const PAGE = readFileSync(join(import.meta.dirname, '../../docs/operating.md'), 'utf8');
const BLOCK = /^```sh\n([\s\S]*?)^```$/gm;

/** The recipes of docs/operating.md are what stands under `## Recipes`, each with a heading of its own. */
const recipes = new Map(
  (PAGE.split(/^## Recipes$/m)[1] ?? '')
    .split(/^## /m, 1)[0]
    .split(/^### /m)
    .slice(1)
    .map((section) => {
      const [title = ''] = section.split('\n', 1);
      return [title, [...section.matchAll(BLOCK)].flatMap(([, block]) => stepsOf(block as string))];
    }),
);

export const recipeTitles: readonly string[] = [...recipes.keys()];

function stepsOf(block: string): Step[] {
  return block
    .split(/^\$ /m)
    .slice(1)
    .map((text) => {
      const [command = '', ...output] = text.trimEnd().split('\n');
      return { command: command.replace(/ +# .*$/, ''), output };
    });
}

/**
 * One test of the recipe with that heading: `cook` runs its commands as they stand on the page, and does around them what the
 * page says. Each must be run, in the order of the page, and print what the page shows.
 */
export function recipe(
  title: string,
  kitchen: () => Kitchen,
  cook: (recipe: Recipe) => Promise<void>,
  /** Why this machine cannot do it; undefined where it can. */
  obstacle?: string,
): void {
  test(title, async (context) => {
    if (obstacle !== undefined) context.skip(obstacle);
    const steps = recipes.get(title);
    expect(steps, `docs/operating.md has no recipe ${JSON.stringify(title)}`).toBeDefined();
    const followed = new Recipe(kitchen(), steps ?? []);
    await cook(followed);
    expect(followed.left, 'commands of the page that were not run').toEqual([]);
  });
}

export class Recipe {
  readonly kitchen: Kitchen;
  readonly #left: Step[];

  constructor(kitchen: Kitchen, steps: readonly Step[]) {
    this.kitchen = kitchen;
    this.#left = [...steps];
  }

  get left(): string[] {
    return this.#left.map(({ command }) => command);
  }

  /** Runs the next command, which must begin so, to its end. `names` are what stands on the page for what the test has. */
  async run(
    beginning: string,
    { code = 0, names = {} }: { code?: number; names?: Record<string, string> } = {},
  ): Promise<Finished> {
    const { command, output } = this.#take(beginning);
    const finished = await this.kitchen.run(command, names);
    expect(finished.code, `${command}\n${finished.stdout}${finished.stderr}`).toBe(code);
    expectLines(`${finished.stdout}${finished.stderr}`, output, this.kitchen);
    return finished;
  }

  /** Starts the next command, which must begin so and is to be a server; resolves when it listens. */
  async server(beginning: string): Promise<RunningCommand> {
    const { command, output } = this.#take(beginning);
    expect(output).toEqual([]);
    return await this.kitchen.server(command);
  }

  /** Takes the next command, which the test does in its own way: a signal to a process, or the same several times. */
  take(beginning: string): string {
    return this.#take(beginning).command;
  }

  #take(beginning: string): Step {
    const next = this.#left.shift();
    expect(next?.command.slice(0, beginning.length), 'the next command of the page').toBe(beginning);
    return next as Step;
  }
}

/** Every line that the page shows must be in the output, in this order, with any numbers, and anything in place of `…`. */
function expectLines(output: string, shown: readonly string[], kitchen: Kitchen): void {
  const lines = kitchen.asOnPage(output).split('\n');
  let at = 0;
  for (const line of shown) {
    const pattern = patternOf(line);
    const found = lines.findIndex((one, index) => index >= at && pattern.test(one.trimEnd()));
    expect(found, `${JSON.stringify(line)} in:\n${lines.slice(at).join('\n')}`).not.toBe(-1);
    at = found + 1;
  }
}

function patternOf(line: string): RegExp {
  const parts = line.trimEnd().split(/(…|\d[\d.,]*)/);
  const sources = parts.map((part) => {
    if (part === '…') return '.*';
    return /^\d/.test(part) ? String.raw`\d[\d.,]*` : part.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  });
  return new RegExp(`^${sources.join('')}$`);
}
