// Alarms: a channel is made, tried from a real machine, changed and deleted; what is secret is never seen
// again, and a message that nobody took is said to be one.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Page } from '@playwright/test';
import { expectAccessible } from './support/axe';
import { expect, test } from './support/test';

test.use({ stageOf: 'alarms' });

const SECRET = 'canary-hook';

let server: Server;
/** What the server answers. */
let status = 204;
/** What it was told. */
const told: { path: string; body: string }[] = [];

test.beforeAll(async ({ stage }) => {
  test.setTimeout(300_000);
  await stage.machine('atlas', 'connected');
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (piece) => (body += String(piece)));
    request.on('end', () => {
      told.push({ path: request.url ?? '', body });
      response.writeHead(status).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

test.afterAll(() => {
  server.close();
});

const main = (page: Page) => page.getByRole('main');
const heading = (page: Page) => page.getByRole('heading', { level: 1 });

test('a channel is made, tried, changed and deleted, by keyboard too', async ({ page }) => {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/${SECRET}`;
  await page.goto('/#/alarms');
  await expect(heading(page)).toHaveText('Nobody is told yet when a backup fails.');
  await expectAccessible(page, 'no alarm channels');
  await main(page).getByRole('link', { name: 'New channel' }).first().focus();
  await page.keyboard.press('Enter');
  await expect(heading(page)).toHaveText('How do you want to be told?');
  await main(page).getByLabel('Kind').selectOption('smtp');
  await expectAccessible(page, 'the form of a mail channel');
  await main(page).getByLabel('Kind').selectOption('webhook');
  await main(page).getByLabel('Some machines').check();
  await expectAccessible(page, 'the form of a webhook for some machines');
  await main(page).getByLabel('All machines, also those that come later').check();
  await main(page).getByLabel('Name').fill('Chat');
  await main(page).getByLabel('Address').fill(url);
  await page.keyboard.press('Enter');
  await expect(heading(page)).toHaveText(/^Webhook to http:\/\/127\.0\.0\.1:\d+\.$/);
  await expect(page.getByText(SECRET)).toHaveCount(0);
  await expectAccessible(page, 'a channel');

  await main(page).getByRole('button', { name: 'Send a test message' }).click();
  await expect(main(page)).toContainText('atlas sent it, and it was taken.');
  expect(told).toHaveLength(1);
  expect(told[0]?.path).toBe(`/${SECRET}`);
  expect(JSON.parse(told[0]?.body ?? '')).toMatchObject({ state: 'test' });
  await expectAccessible(page, 'a channel that was tried');

  status = 404;
  await main(page).getByRole('button', { name: 'Send a test message' }).click();
  await expect(main(page)).toContainText('The server answered 404 and did not take the message.');
  await new Promise<void>((resolve) => server.close(() => resolve()));
  await main(page).getByRole('button', { name: 'Send a test message' }).click();
  await expect(main(page)).toContainText('Nothing listens at the channel');

  await main(page).getByLabel('Name').fill('Room');
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('The channel Room is saved.')).toBeVisible();
  await page.goto('/#/alarms');
  await expect(heading(page)).toHaveText(
    'You are told by 1 channel when a backup fails or is overdue.',
  );
  await expectAccessible(page, 'the alarm channels');
  await main(page).getByRole('link', { name: 'Room' }).click();
  await main(page).getByRole('button', { name: 'Delete the channel Room' }).click();
  await page.getByRole('dialog').getByLabel('Type Room to confirm').fill('Room');
  await page.getByRole('dialog').getByRole('button', { name: 'Delete it' }).click();
  await expect(heading(page)).toHaveText('Nobody is told yet when a backup fails.');
});
