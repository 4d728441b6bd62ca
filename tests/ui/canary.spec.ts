// Secrets are planted, and every screen is visited: neither the page, nor what it gets and sends over
// the network, nor its console, nor what it keeps, holds one. The two that are meant to be seen are
// what was minted and the install block, on Add machine, and nowhere after it.
import type { Page } from '@playwright/test';
import { expect, test } from './support/test';

test.use({ stageOf: 'canary' });

interface Piece {
  name: string;
  text: string;
}

/** Everything that a page shows, receives and says. */
class Witness {
  readonly pieces: Piece[] = [];
  readonly #reading: Promise<void>[] = [];

  watch(page: Page): void {
    page.on('console', (message) => this.see('the console', message.text()));
    page.on('request', (request) => this.see('an address', request.url()));
    page.on('response', (response) => {
      // A stream has no end to wait for; what it told is in the page.
      const isStream = /\/(events|stream)(\?|$)/.test(response.url());
      if (isStream) return;
      const name = `the answer to ${response.request().method()} ${new URL(response.url()).pathname}`;
      const reading = response.text().then(
        (text) => this.see(name, `${JSON.stringify(response.headers())}\n${text}`),
        () => undefined,
      );
      this.#reading.push(reading);
    });
  }

  see(name: string, text: string): void {
    if (text !== '') this.pieces.push({ name, text });
  }

  /** All of the document, what stands in its fields, and what it keeps. */
  async look(page: Page, what: string): Promise<void> {
    const seen = await page.evaluate(() => {
      const fields = [...document.querySelectorAll('input, textarea, select')];
      const values = fields.map((it) => (it as HTMLInputElement).value).join('\n');
      const kept = JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]);
      return [document.documentElement.outerHTML, document.body.innerText, values, kept].join('\n');
    });
    this.see(what, seen);
  }

  async all(): Promise<Piece[]> {
    await Promise.all(this.#reading);
    return this.pieces;
  }
}

test('no screen holds a secret', async ({ page, stage }) => {
  test.setTimeout(300_000);
  const machine = await stage.machine('atlas', 'backed_up');
  const restore = { kind: 'restore', repository_id: machine.repository };
  const run = await stage.run(machine.host, { ...restore, snapshot_id: machine.snapshot });
  expect((await stage.ended(run)).status).toBe('succeeded');
  const witness = new Witness();
  witness.watch(page);
  const base = `#/machines/${machine.host}`;
  const heading = page.getByRole('heading', { level: 1 });
  for (const [address, settled] of [
    ['#/', 'heading'],
    ['#/add', 'heading'],
    [base, 'Protected data'],
    [`${base}/snapshots`, machine.snapshot.slice(0, 8)],
    [`${base}/snapshots/${machine.repository}/${machine.snapshot}`, 'tmp'],
    [`${base}/runs`, 'Initialise'],
    [`${base}/settings`, 'Last check'],
    ['#/activity', 'Initialise'],
    [`#/runs/${run}`, 'Done after'],
    ['#/settings', 'Made an install line'],
  ] as const) {
    await page.goto(`/${address}`);
    await expect(heading).toBeVisible();
    if (settled !== 'heading') await expect(page.getByRole('main')).toContainText(settled);
    await witness.look(page, `the page ${address}`);
  }
  await page.keyboard.press('Control+k');
  await expect(page.getByRole('combobox')).toBeFocused();
  await witness.look(page, 'the palette');
  expect(await stage.secrets(await witness.all())).toEqual([]);
});

test('what was minted is shown once, on Add machine and in its answer', async ({ page, stage }) => {
  await stage.puppet('other');
  const witness = new Witness();
  await page.goto('/#/add');
  witness.watch(page);
  const main = page.getByRole('main');
  await page.getByLabel('What is the machine called?').fill('web-1');
  for (const label of ['By a new plan', 'A new repository']) await main.getByLabel(label).check();
  await page.getByLabel('Folders and files').fill('/srv');
  await page.getByLabel('Location').fill(stage.opening.rest_url.replace('USER', 'web-1'));
  await page.getByLabel('User', { exact: false }).first().fill('web-1');
  await page.getByRole('button', { name: 'Make the install line' }).click();
  const shown = (what: string) => page.getByLabel(what, { exact: true }).innerText();
  await expect(page.getByLabel('install line', { exact: true })).toBeVisible();
  const minted = [await shown('rest-server password'), await shown('repository password')];
  const token = (await shown('install line')).split('\n')[1] ?? '';
  expect([...minted, token].map((it) => it.length > 20)).toEqual([true, true, true]);
  const holds = (text: string) => [...minted, token].some((secret) => text.includes(secret));

  const told = (await witness.all()).filter((piece) => holds(piece.text)).map((it) => it.name);
  expect(told).toEqual(['the answer to POST /api/enrolments']);

  // Elsewhere they are nowhere; and once the next machine is added they are gone here as well.
  const after = new Witness();
  after.watch(page);
  for (const address of ['#/', '#/activity', '#/settings']) {
    await page.goto(`/${address}`);
    await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
    await after.look(page, `the page ${address}`);
  }
  await page.goto('/#/add');
  await main.getByRole('button', { name: 'Start over' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Start over' }).click();
  await expect(page.getByLabel('install line', { exact: true })).toHaveCount(0);
  await after.look(page, 'Add machine, begun anew');
  expect((await after.all()).filter((piece) => holds(piece.text))).toEqual([]);
});

test('the search finds what is there', async ({ stage }) => {
  const { credential } = await stage.user('found');
  const found = await stage.secrets([{ name: 'a page', text: `<p>${credential}</p>` }]);
  expect(found).toEqual(['rest credential is in a page']);
});
