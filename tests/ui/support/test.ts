// What every browser test has: a stage, a Chromium that trusts the stage's manager and no other, a
// session, and a page whose every complaint fails the test.
import { test as base, chromium, expect, type BrowserContext, type Page } from '@playwright/test';
import { Stage } from './stage';

/** Where the system's Chromium is. */
const CHROMIUM = process.env['RESTIC_MANAGER_CHROMIUM'] ?? '/usr/bin/chromium';

type Session = Awaited<ReturnType<BrowserContext['storageState']>>;

interface Options {
  /** Whether the page begins signed in. */
  isSignedIn: boolean;
}

interface TestFixtures {
  /** What the page complained about so far; what a test expects it takes away. */
  complaints: string[];
}

interface WorkerOptions {
  /** Files with different names have different stages. */
  stageOf: string;
}

interface WorkerFixtures {
  stage: Stage;
  session: Session;
}

/** Chromium says this of every refusal, which is not a fault of the page. */
const REFUSED = /^Failed to load resource: the server responded with a status of 4\d\d/;

export const test = base.extend<Options & TestFixtures, WorkerOptions & WorkerFixtures>({
  stageOf: ['', { option: true, scope: 'worker' }],
  isSignedIn: [true, { option: true }],

  stage: [
    async ({ stageOf }, use) => {
      if (stageOf === '') throw new Error('say test.use({ stageOf: … }) at the top of the file');
      const stage = await Stage.set();
      await use(stage);
      await stage.strike();
    },
    { scope: 'worker', timeout: 180_000 },
  ],

  browser: [
    async ({ stage }, use) => {
      const browser = await chromium.launch({
        executablePath: CHROMIUM,
        // Inside of a container root has no sandbox to use.
        chromiumSandbox: process.getuid?.() !== 0,
        args: [
          `--ignore-certificate-errors-spki-list=${stage.opening.spki}`,
          '--disable-gpu',
          '--disable-quic',
          '--no-first-run',
          '--disable-background-networking',
          '--disable-component-update',
          '--disable-sync',
        ],
      });
      await use(browser);
      await browser.close();
    },
    { scope: 'worker', timeout: 180_000 },
  ],

  session: [
    async ({ stage, browser }, use) => {
      const context = await browser.newContext({ baseURL: stage.opening.url });
      const page = await context.newPage();
      await page.goto('/');
      await page.getByLabel('Password').fill(stage.opening.password);
      await page.getByRole('button', { name: 'Sign in' }).click();
      await expect(page.getByRole('navigation', { name: 'Main' })).toBeVisible();
      const session = await context.storageState();
      await context.close();
      await use(session);
    },
    { scope: 'worker', timeout: 180_000 },
  ],

  baseURL: async ({ stage }, use) => use(stage.opening.url),
  storageState: async ({ isSignedIn, session }, use) => use(isSignedIn ? session : undefined),
  contextOptions: async ({}, use) => use({ reducedMotion: 'reduce' }),

  complaints: [
    async ({ page }, use) => {
      const complaints = watch(page);
      await use(complaints);
      expect(complaints, 'the page complains about nothing').toEqual([]);
    },
    { auto: true },
  ],
});

/** Notes what a page complains about: errors, warnings, violations of the policy. */
export function watch(page: Page): string[] {
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(`uncaught: ${error.stack ?? error.message}`));
  page.on('console', (message) => {
    const isBad = message.type() === 'error' || message.type() === 'warning';
    if (isBad && !REFUSED.test(message.text())) complaints.push(message.text());
  });
  return complaints;
}

export { expect };
