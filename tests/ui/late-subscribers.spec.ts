// The page of a run is opened at every moment of the run's life: before its end, while it ends, and
// after it. Each time it shows the whole log and the right end. No step waits for a time: the agent
// says what it is told to say, and the manager has acknowledged it when it has been said.
import type { Page } from '@playwright/test';
import type { Puppet, Stage } from './support/stage';
import { expect, test } from './support/test';

test.use({ stageOf: 'late-subscribers' });

const RUNS = 200;

/** When a run ends, seen from its page. */
const MOMENTS = ['before', 'held', 'racing', 'after', 'broken'] as const;

/** How a run ends, and what the page says then. */
const ENDS = [
  [{ status: 'succeeded' }, 'succeeded'],
  [{ status: 'failed', exit_code: 1, error: 'the disk is full' }, 'failed'],
  [{ status: 'cancelled', exit_code: 130 }, 'cancelled'],
  [{ status: 'interrupted', exit_code: -1 }, 'interrupted'],
] as const;

/** One run, its lines and its end. */
class Act {
  readonly moment: (typeof MOMENTS)[number];
  readonly end: (typeof ENDS)[number];
  readonly lines: string[];
  readonly half: number;

  private constructor(
    private readonly stage: Stage,
    readonly index: number,
    readonly id: string,
  ) {
    this.moment = MOMENTS[index % MOMENTS.length] ?? 'before';
    this.end = ENDS[index % ENDS.length] ?? ENDS[0];
    // Most logs are short; every now and then one is longer than a pane can show.
    const length = index % 40 === 7 ? 300 : 2 + (index % 12);
    this.lines = Array.from({ length }, (_, at) => `run ${index}, line ${at + 1}`);
    this.half = Math.floor(length / 2);
  }

  static async begin(stage: Stage, puppet: Puppet, index: number): Promise<Act> {
    const form = { kind: 'check', repository_id: puppet.repository };
    const act = new Act(stage, index, await stage.run(puppet.host, form));
    const lines = act.lines.slice(0, act.half);
    await stage.say('puppet', act.id, { started: 'check', lines });
    return act;
  }

  finish(): Promise<void> {
    const lines = this.lines.slice(this.half);
    return this.stage.say('puppet', this.id, { lines, finished: this.end[0] });
  }
}

/** Something that happens once. */
class Happening {
  happen: () => void = () => undefined;
  readonly happened = new Promise<void>((resolve) => (this.happen = resolve));
}

/** The requests for streams of runs: each can be kept waiting, or refused as a broken network does. */
class Streams {
  #hold: Happening | undefined;
  #breaks = 0;
  #asked = new Happening();

  async watch(page: Page): Promise<void> {
    await page.route('**/api/runs/*/stream*', async (route) => {
      this.#asked.happen();
      await this.#hold?.happened;
      if (this.#breaks > 0) {
        this.#breaks -= 1;
        await route.abort('connectionreset');
      } else await route.continue();
    });
  }

  /** From here on they wait for what is returned to be called. */
  hold(): () => void {
    const hold = new Happening();
    this.#hold = hold;
    this.#asked = new Happening();
    return () => {
      this.#hold = undefined;
      hold.happen();
    };
  }

  breakOnce(): void {
    this.#breaks = 1;
  }

  /** Resolves once the page has asked for one since the last {@link hold}. */
  get asked(): Promise<void> {
    return this.#asked.happened;
  }
}

async function open(page: Page, act: Act): Promise<void> {
  // Every now and then all of the page is loaded; else it is a step inside of it.
  if (act.index % 10 === 3) await page.goto('about:blank');
  await page.goto(`/#/runs/${act.id}`);
}

async function play(page: Page, streams: Streams, act: Act): Promise<void> {
  switch (act.moment) {
    case 'before':
      await act.finish();
      await open(page, act);
      return;
    case 'held': {
      const release = streams.hold();
      await open(page, act);
      await streams.asked;
      await act.finish();
      release();
      return;
    }
    case 'racing':
      await Promise.all([open(page, act), act.finish()]);
      return;
    case 'after':
      await open(page, act);
      await expect(page.getByText(act.lines[act.half - 1] ?? '', { exact: true })).toBeVisible();
      await act.finish();
      return;
    case 'broken': {
      const release = streams.hold();
      streams.breakOnce();
      await open(page, act);
      await streams.asked;
      await act.finish();
      release();
    }
  }
}

async function expectWhole(page: Page, act: Act): Promise<void> {
  const log = page.getByRole('region', { name: 'Log' });
  const heading = page.getByRole('heading', { level: 1 });
  await expect(heading, `run ${act.index}, ${act.moment}`).toContainText(act.end[1]);
  await expect(log.getByText(`${act.lines.length} lines`, { exact: true })).toBeVisible();
  const pane = log.getByRole('log');
  const rows = pane.locator('.row .text');
  if (act.lines.length < 30) {
    await expect(rows).toHaveText(act.lines);
    return;
  }
  // Only the rows in sight exist: each is looked at where it stands.
  for (let from = 0; from < act.lines.length; from += 10) {
    const wanted = act.lines.slice(from, from + 10);
    await pane.evaluate((it, top) => it.scrollTo({ top }), from * 20);
    for (const line of wanted) await expect(rows.getByText(line, { exact: true })).toHaveCount(1);
  }
}

test('many pages of one browser follow runs at once', async ({ context, stage }) => {
  const puppet = await stage.puppet('crowd');
  const run = await stage.run(puppet.host, { kind: 'backup', plan_id: puppet.plan });
  await stage.say('crowd', run, { started: 'backup', lines: ['first', 'second'] });
  const pages: Page[] = [];
  for (let count = 0; count < 12; count += 1) {
    const page = await context.newPage();
    await page.goto(`/#/runs/${run}`);
    await expect(page.getByText('2 lines', { exact: true })).toBeVisible();
    pages.push(page);
  }
  await stage.say('crowd', run, { finished: {} });
  for (const page of pages) {
    await expect(page.getByRole('heading', { level: 1 })).toContainText('succeeded');
  }
});

test('a page opened at any moment of a run shows its whole log and its end', async ({
  page,
  stage,
  complaints,
}) => {
  test.setTimeout(900_000);
  const puppet = await stage.puppet('puppet');
  const init = await stage.run(puppet.host, { kind: 'init', repository_id: puppet.repository });
  await stage.say('puppet', init, { started: 'init', finished: {} });
  const streams = new Streams();
  await streams.watch(page);
  await page.goto('/');
  for (let index = 0; index < RUNS; index += 1) {
    const act = await Act.begin(stage, puppet, index);
    await play(page, streams, act);
    await expectWhole(page, act);
  }
  // What Chromium says of the connections that were broken on purpose.
  const broken = complaints.splice(0).filter((it) => !it.includes('net::ERR_CONNECTION_RESET'));
  expect(broken).toEqual([]);
});
