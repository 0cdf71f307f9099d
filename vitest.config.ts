import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** These take longest: begun last, as their size would have it, they would leave the other worker idle. */
const LONGEST = ['/test/conformance/amqp-store.test.ts', '/test/conformance/amqp.test.ts'];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = LONGEST.findIndex((file) => moduleId.endsWith(file));
      return place === -1 ? LONGEST.length : place;
    };
    return sorted.toSorted((one, other) => rank(one) - rank(other));
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
