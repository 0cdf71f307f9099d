import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** These take longest: begun last, as their size would have it, they would leave the other worker idle. */
const LONGEST = ['/test/conformance/amqp-store.test.ts', '/test/conformance/amqp.test.ts'];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId, project }: TestSpecification): number => {
      const place = LONGEST.findIndex((file) => moduleId.endsWith(file));
      if (place !== -1) return place;
      // Behind each other, so that one process takes them all.
      return project.name === 'together' ? LONGEST.length + 1 : LONGEST.length;
    };
    return sorted.toSorted((one, other) => rank(one) - rank(other));
  }
}

/**
 * `npm test` has to end within ten minutes on two cores. These take as long again: they run with
 * `npm run test:all`, which is for every change to what they are about, and before a release.
 */
const LONG = [
  'test/amqp/broker.test.ts',
  'test/amqp/cluster.test.ts',
  'test/amqp/connection.test.ts',
  'test/amqp/outages.test.ts',
  'test/amqp/programs.test.ts',
  'test/amqp/refusals.test.ts',
  'test/browser/content.test.ts',
  'test/browser/live.test.ts',
  'test/browser/pages.test.ts',
  'test/browser/places.test.ts',
  'test/cli/bench.test.ts',
  'test/conformance/amqp-store.test.ts',
  'test/postgres/relations.test.ts',
  'test/services/**',
];

/**
 * Files that leave nothing behind in their process, neither what they set nor what they start: one process takes them all, which
 * saves half of their time. What starts what is built, or looks at its own process, has one for each file.
 */
const TOGETHER = [
  'src/**/*.test.ts',
  'dashboard/**/*.test.ts',
  'test/{format,model,postgres,schemas,testing}/**/*.test.ts',
];

const shared = {
  exclude: [...configDefaults.exclude, ...(process.env.MILLRACE_TESTS === 'all' ? [] : LONG)],
  globals: false,
  pool: 'forks' as const,
  // What is built is run as it is.
  server: { deps: { external: [/\/dist\//] } },
  testTimeout: 20_000,
  hookTimeout: 20_000,
  // As `until` in test/conformance/events.ts: a machine that is busy is no failure.
  expect: { poll: { timeout: 10_000, interval: 10 } },
};

export default defineConfig({
  test: {
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    globalSetup: 'test/support/services-host.ts',
    projects: [
      {
        test: { ...shared, name: 'apart', include: ['test/**/*.test.ts'], exclude: [...shared.exclude, ...TOGETHER] },
      },
      { test: { ...shared, name: 'together', include: TOGETHER, isolate: false } },
    ],
  },
});
