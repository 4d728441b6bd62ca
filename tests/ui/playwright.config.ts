// How the browser tests run: one real manager and one Chromium for each file.
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  outputDir: 'results',
  // A machine that also compiles is slow; only a failure waits this long.
  timeout: 180_000,
  expect: { timeout: 30_000 },
  use: { actionTimeout: 30_000, navigationTimeout: 60_000 },
  workers: 1,
  forbidOnly: true,
  retries: 0,
  reporter: [['list']],
});
