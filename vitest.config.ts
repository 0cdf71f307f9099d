import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Takes a third of the time of one worker: begun last, as its size would have it, it would leave the others idle. */
const LONGEST = '/test/conformance/amqp.test.ts';

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLongest = ({ moduleId }: TestSpecification): boolean => moduleId.endsWith(LONGEST);
    return [...sorted.filter(isLongest), ...sorted.filter((file) => !isLongest(file))];
  }
}

/**
 * `npm test` has to end within ten minutes on two cores. These take two of them, and look at what changes least: they run with
 * `npm run test:all`, which is for every change to what they are about, and before a release.
 */
const LONG = [
  'src/schedule/timing.test.ts',
  'test/access/backends-tls.test.ts',
  'test/amqp/programs.test.ts',
  'test/browser/content.test.ts',
  'test/browser/pages.test.ts',
  'test/cli/bench.test.ts',
  'test/fuzz/**',
  'test/operating/**',
  'test/services/**',
];

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts', 'dashboard/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...(process.env.MILLRACE_TESTS === 'all' ? [] : LONG)],
    globalSetup: 'test/support/services-host.ts',
    globals: false,
    pool: 'forks',
    // What is built is run as it is.
    server: { deps: { external: [/\/dist\//] } },
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 20_000,
    hookTimeout: 20_000,
    // As `until` in test/conformance/events.ts: a machine that is busy is no failure.
    expect: { poll: { timeout: 10_000 } },
  },
});
