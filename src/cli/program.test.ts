import { type Command, CommanderError } from 'commander';
import { expect, test } from 'vitest';
import { createProgram } from './program.ts';

function pathsOf(command: Command, before: readonly string[] = []): string[][] {
  return command.commands.flatMap((each) => {
    const path = [...before, each.name()];
    return [path, ...pathsOf(each, path)];
  });
}

const PATHS = pathsOf(await createProgram());

test('the documented commands are there', () => {
  const names = PATHS.map((path) => path.join(' '));
  const documented = 'server,worker,clients,enqueue,status,task get,queue purge,journal verify,bench,demo'.split(',');
  expect(names).toEqual(expect.arrayContaining(documented));
});

test.each(PATHS.map((path) => [path.join(' '), path] as const))('millrace %s explains itself', async (name, path) => {
  const program = await createProgram(path);
  const command = path.reduce(
    (parent, each) => parent.commands.find((child) => child.name() === each) as Command,
    program,
  );
  let help = '';
  command.configureOutput({
    writeOut: (text) => {
      help += text;
    },
  });
  await expect(program.parseAsync([...path, '--help'], { from: 'user' })).rejects.toThrow(CommanderError);
  expect(help).toMatch(new RegExp(`^Usage: millrace ${name}`));
  expect(help).toMatch(/\nExamples?:\n {2}\$ .*millrace /);
});
