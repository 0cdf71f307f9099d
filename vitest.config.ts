import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts', 'dashboard/**/*.test.ts'],
    globalSetup: 'test/support/services-host.ts',
    globals: false,
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 20_000,
    hookTimeout: 20_000,
    // As `until` in test/conformance/events.ts: a machine that is busy is no failure.
    expect: { poll: { timeout: 10_000 } },
  },
});
