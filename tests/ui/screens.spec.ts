// Each screen: the main thing that it is for, and axe in light and dark.
import { mkdtemp, readFile, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from '@playwright/test';
import { expectAccessible } from './support/axe';
import type { Machine, Puppet } from './support/stage';
import { expect, test } from './support/test';

test.use({ stageOf: 'screens' });

let atlas: Machine;
let nova: Machine;
let probe: Puppet;

test.beforeAll(async ({ stage }) => {
  test.setTimeout(300_000);
  atlas = await stage.machine('atlas', 'backed_up');
  nova = await stage.machine('nova', 'connected');
  probe = await stage.puppet('probe');
  const init = await stage.run(probe.host, { kind: 'init', repository_id: probe.repository });
  await stage.say('probe', init, { started: 'init', finished: {} });
});

const heading = (page: Page) => page.getByRole('heading', { level: 1 });
const main = (page: Page) => page.getByRole('main');
const tab = (page: Page, words: string) =>
  page.getByRole('navigation', { name: 'Machine' }).getByRole('link', { name: words });

test.describe('signing in', () => {
  test.use({ isSignedIn: false });

  test('the password lets in, and signing out ends the session', async ({ page, stage }) => {
    await page.goto('/#/settings');
    await expect(page.getByLabel('Password')).toBeFocused();
    await expectAccessible(page, 'signing in');
    await page.getByLabel('Password').fill('not the password');
    await page.keyboard.press('Enter');
    await expect(page.getByLabel('Password')).toHaveAttribute('aria-invalid', 'true');
    await expect(page.getByLabel('Password')).toHaveValue('not the password');
    await expectAccessible(page, 'a wrong password');
    await page.getByLabel('Password').fill(stage.opening.password);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await expect(heading(page)).toHaveText('Settings');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await expect(page.getByLabel('Password')).toBeVisible();
    const status = await page.evaluate(async () => (await fetch('/api/system')).status);
    expect(status).toBe(401);
  });
});

test('nothing of a row is cut off in a small window', async ({ page }) => {
  await page.setViewportSize({ width: 1024, height: 700 });
  await page.goto('/');
  const table = main(page).getByRole('table', { name: 'Machines' });
  await expect(table.getByRole('row')).toHaveCount(4);
  expect(await table.evaluate((it) => it.scrollWidth - it.clientWidth)).toBe(0);
});

test('the words of a state are whole in a small window', async ({ page }) => {
  // All that a row may say, as far as one machine can be made to say it by what the list tells of it.
  await page.goto('/');
  const hosts = await page.evaluate(
    async () => (await (await fetch('/api/hosts')).json()) as Record<string, unknown>[],
  );
  const at = new Date(Date.now() - 100 * 86_400_000).toISOString();
  const last_good = { run_id: 'r', at, is_partial: false };
  const hold = { code: 'clone_suspected', message: 'Two of them.' };
  const action = (action: string, kind: string) => ({ action, kind, run_id: 'r' });
  const told = {
    'protected, not connected': { verdict: 'protected', is_online: false },
    'waits, something is in the way': { verdict: 'waiting' },
    'waits for your decision': { hold },
    'running, no contact': {
      is_online: false,
      next_action: action('view', 'backup'),
      last_runs: [{ id: 'r', kind: 'backup', status: 'running', created_at: at }],
    },
    'telling what it did': { verdict: 'silent' },
    'initialise failed': { next_action: action('retry', 'init') },
    'asleep for 100 days': { verdict: 'asleep', is_online: false, last_seen_at: at },
    'no backup for 100 days': {
      verdict: 'late',
      plans: [{ plan_id: 'p', enabled: true, verdict: 'late', last_good }],
    },
  };
  const first = hosts.find((it) => it['name'] === 'atlas');
  const json = Object.entries(told).map(([id, more]) => {
    return { ...first, id, name: id, next_action: null, ...more };
  });
  await page.route('**/api/hosts', (route) => route.fulfill({ json }));
  await page.setViewportSize({ width: 1024, height: 700 });
  await page.reload();
  const rows = main(page).getByRole('table', { name: 'Machines' }).getByRole('row');
  await expect(rows).toHaveCount(json.length + 1);
  const words = await rows.locator('.state').evaluateAll((all) =>
    all.map((it) => ({
      words: it.textContent,
      cut: [it.scrollWidth - it.clientWidth, it.scrollHeight - it.clientHeight],
    })),
  );
  expect(words.length).toBe(json.length);
  for (const { words: text, cut } of words) expect(cut, text).toEqual([0, 0]);
  expect(words.map((it) => it.words).sort()).toEqual(Object.keys(told).sort());
});

test('the fleet says how things are, and each row opens its machine', async ({ page, stage }) => {
  await page.goto('/');
  await expect(heading(page)).toContainText('1 of 3 machines');
  const rows = main(page).getByRole('table', { name: 'Machines' }).getByRole('row');
  await expect(rows).toHaveCount(4);
  await expect(main(page).getByRole('button', { name: 'Initialise: nova' }).first()).toBeVisible();
  await expectAccessible(page, 'the fleet');
  // All of the row is the link, but for its one action.
  await rows.filter({ hasText: 'atlas' }).click({ position: { x: 300, y: 20 } });
  await expect(page).toHaveURL(new RegExp(`#/machines/${atlas.host}$`));
  await page.goBack();
  await rows.filter({ hasText: 'probe' }).getByRole('button').click();
  await expect(page, 'the action does not open the row').not.toHaveURL(/machines/);
  const view = main(page).getByRole('link', { name: 'View the run on probe' });
  await view.first().click();
  await expect(page).toHaveURL(/#\/runs\//);
  const run = page.url().split('/').at(-1) ?? '';
  await stage.say('probe', run, { started: 'backup', finished: {} });
  await expect(heading(page)).toContainText('Backup on probe succeeded');
});

test('a machine shows its facts, snapshots and runs', async ({ page }) => {
  await page.goto(`/#/machines/${atlas.host}`);
  await expect(heading(page)).toContainText('Protected');
  await expect(main(page)).toContainText('Protected data');
  await expectAccessible(page, 'the overview');
  await tab(page, 'Snapshots').click();
  await expect(main(page).getByRole('link', { name: atlas.snapshot.slice(0, 8) })).toHaveCount(0);
  await expect(main(page)).toContainText(atlas.snapshot.slice(0, 8));
  await expectAccessible(page, 'the snapshots');
  await tab(page, 'Runs').click();
  await expect(main(page).getByRole('link', { name: /^Initialise/ })).toBeVisible();
  await expectAccessible(page, 'the runs of a machine');
});

test('the settings of a machine check, preview, rename and change plans', async ({
  page,
  stage,
}) => {
  // Two snapshots, of which one is kept.
  const retention = { keep_last: 1 };
  await stage.call('PUT', `/api/plans/${atlas.plan}`, { retention });
  await stage.ended(await stage.run(atlas.host, { kind: 'backup', plan_id: atlas.plan }));
  await page.goto(`/#/machines/${atlas.host}/settings`);
  await expect(main(page).getByRole('button', { name: 'Check', exact: true })).toBeVisible();
  await expectAccessible(page, 'the settings of a machine');

  await main(page).getByRole('button', { name: 'Check', exact: true }).click();
  await page.getByRole('region', { name: 'Messages' }).getByRole('link', { name: 'View' }).click();
  await expect(heading(page)).toContainText('Check on atlas succeeded');
  await page.goBack();

  await main(page).getByRole('button', { name: 'Forget: show what would go' }).click();
  const forget = main(page).getByRole('button', { name: 'Forget now' });
  await expect(forget).toBeEnabled();
  await forget.click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByRole('button', { name: 'Forget now' })).toBeDisabled();
  await expectAccessible(page, 'a confirmation');
  await dialog.getByLabel('Type atlas to confirm').fill('atlas');
  await dialog.getByRole('button', { name: 'Forget now' }).click();
  await expect(heading(page)).toContainText('Forget on atlas succeeded');
  await page.goBack();

  await main(page).getByRole('button', { name: 'Change atlas files' }).click();
  await expectAccessible(page, 'the editor of a plan');
  await main(page).getByLabel('Leave out').fill('*.tmp');
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expect(main(page).getByLabel('Leave out')).toHaveCount(0);

  await main(page).getByLabel('Name in this fleet').fill('atlas-2');
  await main(page).getByRole('button', { name: 'Rename' }).click();
  await expect(page.getByText('It is called atlas-2 now.')).toBeVisible();
  await main(page).getByLabel('Name in this fleet').fill('atlas');
  await main(page).getByRole('button', { name: 'Rename' }).click();
  await expect(page.getByText('It is called atlas now.')).toBeVisible();
});

test('a repository is corrected, and its server asked first', async ({ page }) => {
  await page.goto(`/#/machines/${atlas.host}/settings`);
  const opener = main(page).getByRole('button', { name: 'Change the repository atlas store' });
  await opener.click();
  const form = main(page).getByRole('form', { name: 'Change atlas store' });
  await expect(form.getByRole('button', { name: 'Save' })).toBeDisabled();
  await form.getByRole('button', { name: 'Test the connection' }).click();
  await expect(form.getByRole('status').first()).toContainText(/password/);
  await form.getByLabel('Repository password').fill('another one');
  await expect(form.getByLabel('Type atlas store to replace its password')).toBeVisible();
  await expectAccessible(page, 'the editor of a repository');
  await form.getByLabel('Repository password').fill('');
  await form.getByLabel('Name', { exact: true }).fill('atlas vault');
  await expect(form).toContainText('Unsaved changes');
  await form.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('The repository atlas vault is saved.')).toBeVisible();
  await expect(form).toHaveCount(0);
  const renamed = main(page).getByRole('button', { name: 'Change the repository atlas vault' });
  await expect(renamed).toBeFocused();
  // It still opens with what was not typed anew.
  await main(page).getByRole('button', { name: 'Check', exact: true }).click();
  await page
    .getByRole('region', { name: 'Messages' })
    .getByRole('link', { name: 'View' })
    .last()
    .click();
  await expect(heading(page)).toContainText('Check on atlas succeeded');
  await page.goBack();
  await expect(main(page)).toContainText(', no errors');
  await renamed.click();
  await main(page).getByRole('textbox', { name: 'Name', exact: true }).fill('atlas store');
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expect(opener).toBeFocused();
});

test('what is typed is there after looking elsewhere, until it is given up', async ({ page }) => {
  await page.goto(`/#/machines/${atlas.host}/settings`);
  const opener = main(page).getByRole('button', { name: 'Change atlas files' });
  await opener.click();
  const excludes = main(page).getByLabel('Leave out');
  await excludes.fill('*.bak');
  await tab(page, 'Overview').click();
  await expect(main(page)).toContainText('Protected data');
  await tab(page, 'Settings').click();
  await expect(excludes).toHaveValue('*.bak');
  await expect(main(page).getByText('Unsaved changes')).toBeVisible();
  await expectAccessible(page, 'a plan that is not saved');
  await main(page).getByRole('button', { name: 'Discard changes' }).click();
  await expect(excludes).toHaveCount(0);
  await expect(opener).toBeFocused();

  await page.goto('/#/settings');
  const addresses = main(page).getByLabel('Addresses');
  const was = await addresses.inputValue();
  await addresses.fill(`${was}\nother.example:9781`);
  await page.goto('/#/activity');
  await expect(heading(page)).toBeVisible();
  await page.goto('/#/settings');
  await expect(addresses).toHaveValue(/other\.example/);
  await expect(main(page).getByText('Unsaved changes')).toBeVisible();
  await main(page).getByRole('button', { name: 'Discard changes' }).click();
  await expect(addresses).toHaveValue(was);
});

test('a look is noted although the page is left at once', async ({ page, stage }) => {
  const looked = async () => {
    const { body } = await stage.call('GET', '/api/away');
    return (body as { since: string | null }).since ?? '';
  };
  const read = () => page.waitForResponse('**/api/away');
  await Promise.all([read(), page.goto('/')]);
  await expect(heading(page)).toBeVisible();
  const before = await looked();
  await Promise.all([read(), page.reload()]);
  await expect.poll(looked).not.toBe(before);
});

test('a plan is taken away only when it is asked twice', async ({ page, stage }) => {
  await page.goto(`/#/machines/${probe.host}/settings`);
  const opener = main(page).getByRole('button', { name: 'Take away: probe files' });
  await opener.click();
  await expect(main(page).getByRole('button', { name: 'Keep it' })).toBeFocused();
  await expectAccessible(page, 'the question before a plan is taken away');
  await page.keyboard.press('Escape');
  await expect(opener).toBeFocused();
  await opener.click();
  await main(page).getByRole('button', { name: 'Yes, take it away' }).click();
  await expect(page.getByText('Backups of probe files ended on probe.')).toBeVisible();
  await expect(opener).toHaveCount(0);
  await expect(main(page).getByRole('button', { name: 'New plan' })).toBeFocused();
  await stage.call('PUT', `/api/plans/${probe.plan}`, { host_ids: [probe.host] });
});

test('a dialog gives the focus back to what opened it', async ({ page }) => {
  await page.goto(`/#/machines/${nova.host}/settings`);
  const opener = main(page).getByRole('button', { name: 'Revoke', exact: true });
  const dialog = page.getByRole('dialog');
  for (const close of [
    () => page.keyboard.press('Escape'),
    () => dialog.getByRole('button', { name: 'Keep it' }).click(),
  ]) {
    await opener.focus();
    await page.keyboard.press('Enter');
    await expect(dialog.getByLabel('Type nova to confirm')).toBeFocused();
    await close();
    await expect(dialog).toHaveCount(0);
    await expect(opener).toBeFocused();
  }
});

test('a machine gets a further plan, and it is deleted with its name typed', async ({ page }) => {
  await page.goto(`/#/machines/${atlas.host}/settings`);
  await main(page).getByRole('button', { name: 'New plan' }).click();
  const form = main(page).getByRole('form', { name: 'New plan' });
  await expectAccessible(page, 'a new plan');
  await form.getByLabel('Folders and files').fill('/srv/two  blanks\n/etc');
  await form.getByLabel('Into the repository').selectOption(atlas.repository);
  await form.getByRole('button', { name: 'Make the plan' }).click();
  await expect(page.getByText('atlas has the plan atlas files 2 now.')).toBeVisible();
  const path = main(page).getByRole('listitem').filter({ hasText: 'two' });
  expect(await path.evaluate((it) => (it as HTMLElement).innerText)).toBe('/srv/two  blanks');

  await main(page).getByRole('button', { name: 'Change atlas files 2' }).click();
  await main(page).getByRole('button', { name: 'Delete the plan atlas files 2' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('backed up no longer on atlas');
  await expectAccessible(page, 'the deletion of a plan');
  await dialog.getByLabel('Type atlas files 2 to confirm').fill('atlas files 2');
  await dialog.getByRole('button', { name: 'Delete it' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(path).toHaveCount(0);
});

test('a run shows how far it is, its log, and how it ended', async ({ page, stage }) => {
  const run = await stage.run(probe.host, { kind: 'backup', plan_id: probe.plan });
  const lines = Array.from({ length: 400 }, (_, at) => `file ${at + 1} was read`);
  await page.goto(`/#/runs/${run}`);
  await stage.say('probe', run, {
    started: 'backup',
    lines,
    progress: { percent_done: 0.25, bytes_done: 5e9, total_bytes: 2e10, total_files: 1200 },
  });
  await expect(heading(page)).toContainText('Backing up probe');
  await expect(main(page).getByRole('progressbar').first()).toBeVisible();
  await expect(main(page)).toContainText('25');
  await expectAccessible(page, 'a run that is going');

  const log = page.getByRole('region', { name: 'Log' });
  await expect(log.getByText('file 400 was read')).toBeVisible();
  await log.getByRole('button', { name: 'Find' }).click();
  await log.getByLabel('Find in the log').fill('file 17 ');
  await expect(log.locator('mark')).toHaveText('file 17 ');
  await expect(log.getByRole('button', { name: 'Follow', exact: true })).toBeVisible();
  await expectAccessible(page, 'a search in a log');
  await log.getByRole('button', { name: 'Follow', exact: true }).click();
  await expect(log.getByText('file 400 was read')).toBeVisible();

  await main(page).getByRole('button', { name: 'Cancel' }).dblclick();
  await expect(main(page).getByRole('button', { name: 'Cancel' })).toBeVisible();
  await main(page).getByRole('button', { name: 'Cancel' }).click();
  await main(page).getByRole('button', { name: 'Yes, cancel it' }).click();
  await expect(main(page).getByRole('button', { name: 'Cancelling' })).toBeDisabled();
  const unreadable = [{ path: '/srv/locked', error: 'permission denied' }];
  await stage.say('probe', run, {
    finished: {
      status: 'partial',
      exit_code: 3,
      error: 'one file could not be read',
      unreadable,
      unreadable_count: 1,
      snapshot_id: 'ab'.repeat(32),
    },
  });
  await expect(heading(page)).toContainText('ended with gaps');
  await expect(main(page)).toContainText('/srv/locked');
  await expectAccessible(page, 'a run that has ended');

  const downloaded = page.waitForEvent('download');
  await log.getByRole('button', { name: 'Download' }).click();
  const text = await readFile(await (await downloaded).path(), 'utf8');
  expect(text).toContain('file 1 was read');
  expect(text).toContain('file 400 was read');
});

test('damage that a check found needs somebody, until a check finds none', async ({
  page,
  stage,
}) => {
  const check = { kind: 'check', repository_id: probe.repository };
  const bad = await stage.run(probe.host, check);
  const finished = { status: 'failed', exit_code: 1, code: 'repository_damaged' };
  await stage.say('probe', bad, {
    started: 'check',
    finished: { ...finished, error: 'The repository is damaged. A pack is missing.' },
  });
  await page.goto('/');
  const needs = main(page).getByRole('list', { name: 'What needs you' });
  await expect(needs).toContainText('probe: a check found damage');
  const row = main(page).getByRole('row', { name: 'probe' });
  await expect(row).toContainText('check found damage');
  await expectAccessible(page, 'a fleet with a damaged repository');
  await needs.getByRole('link', { name: 'See what it found' }).click();
  await expect(main(page)).toContainText('A pack is missing.');
  await page.goto(`/#/machines/${probe.host}`);
  await expect(heading(page)).toContainText('A check found damage.');
  await expectAccessible(page, 'a machine with a damaged repository');
  const good = await stage.run(probe.host, check);
  await stage.say('probe', good, { started: 'check', finished: {} });
  await expect(heading(page)).not.toContainText('damage');
});

test('messages take their room below the page, and cover nothing of it', async ({ page }) => {
  await page.setViewportSize({ width: 1024, height: 700 });
  await page.goto(`/#/machines/${atlas.host}/settings`);
  const button = main(page).getByRole('button', { name: 'Read facts anew' });
  await button.evaluate((it) => it.scrollIntoView({ block: 'end' }));
  await button.click();
  const messages = page.getByRole('region', { name: 'Messages' });
  await expect(messages.getByRole('link', { name: 'View' })).toBeVisible();
  await messages.hover();
  await expect(button).toBeInViewport({ ratio: 1 });
  const [above, below] = [await main(page).boundingBox(), await messages.boundingBox()];
  expect(above && below && above.y + above.height <= below.y).toBe(true);
  await expectAccessible(page, 'a message');
  await messages.getByRole('button', { name: 'Close the message' }).focus();
  await page.keyboard.press('Enter');
  await expect(messages.getByRole('button')).toHaveCount(0);
  await expect(button).toBeFocused();
});

test('the activity lists every run and can be narrowed', async ({ page }) => {
  await page.goto('/#/activity');
  const rows = main(page).getByRole('table', { name: 'Runs' }).getByRole('row');
  await expect(rows.filter({ hasText: 'atlas' })).not.toHaveCount(0);
  await expectAccessible(page, 'the activity');
  await main(page).getByLabel('Machine').selectOption('probe');
  await expect(rows.filter({ hasText: 'atlas' })).toHaveCount(0);
  await main(page).getByLabel('Kind').selectOption('Initialise');
  await expect(rows).toHaveCount(2);
  await rows.nth(1).getByRole('link').click();
  await expect(heading(page)).toContainText('Initialise on probe succeeded');
});

test('the store gets a folder, takes machines in, limits them, and says when it is away', async ({
  page,
  stage,
}) => {
  const base = await mkdtemp(join(tmpdir(), 'store-'));
  const folder = join(base, 'store');
  await page.goto('/#/store');
  await expect(heading(page)).toHaveText('Backups can lie on this computer.');
  await expect(main(page)).toContainText('are free there');
  await expectAccessible(page, 'a store without a folder');
  await main(page).getByLabel('Folder').fill('somewhere');
  await expect(main(page)).not.toContainText('are free there');
  await main(page).getByRole('button', { name: 'Use this folder' }).click();
  await expect(main(page).getByLabel('Folder')).toHaveAttribute('aria-invalid', 'true');

  await page.goto('/#/add');
  await main(page).getByLabel('This computer').check();
  await page.getByLabel('What is the machine called?').fill('tender');
  await page.getByLabel('Folders and files').fill('/etc');
  await page.getByLabel('Folder', { exact: true }).fill(folder);
  await expectAccessible(page, 'a machine that backs up to this computer');
  await page.getByRole('button', { name: 'Make the install line' }).click();
  await expect(page.getByLabel('install line', { exact: true })).toBeVisible();

  await page.goto('/#/store');
  await expect(heading(page)).toHaveText(/^0.B of backups on this computer\.$/);
  await expect(main(page)).toContainText(folder);
  await expect(main(page)).toContainText('No machine backs up to here yet');
  await expect(main(page)).toContainText('Its size is noted once a day.');
  await expectAccessible(page, 'the store');
  const { body } = await stage.call('GET', '/api/plans');
  const plans = body as { id: string; repository_id?: string }[];
  const plan = plans.find((it) => !it.repository_id);
  const leaver = await stage.puppet('leaver');
  await stage.call('PUT', `/api/plans/${plan?.id}`, { host_ids: [nova.host, leaver.host] });
  const rows = main(page).getByRole('table', { name: 'What lies in the store' }).getByRole('row');
  await expect(rows).toHaveCount(3);
  await expectAccessible(page, 'the store with machines');

  await main(page).getByRole('button', { name: 'Change limit: nova' }).click();
  const limit = main(page).getByLabel('How much may it fill?');
  await expect(limit).toBeFocused();
  for (const [typed, why] of [
    ['500', /with its unit/],
    ['0 GB', /refuse every backup/],
  ] as const) {
    await limit.fill(typed);
    await main(page).getByRole('button', { name: 'Save' }).click();
    await expect(limit).toHaveAttribute('aria-invalid', 'true');
    await expect(limit).toHaveAccessibleDescription(why);
  }
  await expectAccessible(page, 'a limit that is refused');
  await limit.fill('500 GB');
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expect(rows.filter({ hasText: 'nova' })).toContainText(/500.GB/);

  await stage.call('DELETE', `/api/hosts/${leaver.host}`, { confirm: 'leaver' });
  await expect(rows).toHaveCount(2);
  const left = main(page).getByRole('region', { name: 'Kept from machines that left' });
  await expect(left).toContainText('leaver');
  await expectAccessible(page, 'the store with what a machine left');

  await rename(folder, join(base, 'elsewhere'));
  await page.goto('/');
  const needs = main(page).getByRole('list', { name: 'What needs you' });
  await expect(needs).toContainText('Until then nova cannot back up to it.');
  await expectAccessible(page, 'a fleet whose store is away');
  await needs.getByRole('link', { name: 'Open the store' }).click();
  await expect(heading(page)).toHaveText('The store is away.');
  await expectAccessible(page, 'a store that is away');
  await main(page).getByLabel('Folder').fill(join(base, 'elsewhere'));
  await main(page).getByRole('button', { name: 'It lies here now' }).click();
  await expect(heading(page)).toHaveText(/of backups on this computer\.$/);
  await stage.call('PUT', `/api/plans/${plan?.id}`, { host_ids: [] });
});

test('plans are listed, made for tags, changed and paused', async ({ page, stage }) => {
  await page.goto('/#/plans');
  const rows = main(page).getByRole('table', { name: 'Plans' }).getByRole('row');
  await expect(rows.filter({ hasText: 'atlas files' })).toContainText('succeeded');
  await expectAccessible(page, 'the plans');

  await main(page).getByRole('link', { name: 'New plan' }).click();
  await expect(heading(page)).toHaveText('What shall be backed up?');
  await main(page).getByText('Patterns').first().click();
  await main(page).getByText('More: limits, options and hooks').click();
  await expectAccessible(page, 'the form of a new plan');
  await main(page).getByLabel('Name of the plan').fill('mail');
  await main(page).getByLabel('Folders and files').fill('/srv/mail');
  await main(page).getByLabel('Caches and temporary files').check();
  await main(page).getByLabel('Upload at most (KiB/s)').fill('2048');
  await main(page).getByLabel('Before', { exact: true }).fill('stop-mail');
  await main(page).getByLabel('Into the repository').selectOption(atlas.repository);
  await main(page).getByLabel('All machines with one of these tags').fill('Mail,');
  await main(page).getByRole('button', { name: 'Make the plan' }).click();
  await expect(heading(page)).toHaveText('No machine has this plan.');
  await expectAccessible(page, 'a plan without machines');

  await page.goto(`/#/machines/${atlas.host}/settings`);
  await main(page).getByLabel('Tags of this machine').fill('mail');
  await expectAccessible(page, 'a machine that gets a tag');
  await main(page).getByRole('button', { name: 'Set the tags' }).click();
  await expect(page.getByText('The tags of atlas are saved.')).toBeVisible();
  await main(page).getByRole('link', { name: 'mail', exact: true }).click();
  await expect(heading(page)).toHaveText('atlas has this plan.');
  const { body } = await stage.call('GET', '/api/plans');
  const made = (body as { name: string; options: object; presets: string[] }[]).find(
    (it) => it.name === 'mail',
  );
  expect(made).toMatchObject({
    presets: ['caches'],
    options: { limit_upload_kib: 2048, hooks: { before: 'stop-mail' } },
  });
  await main(page).getByRole('checkbox', { name: /^nova/ }).check();
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expect(heading(page)).toHaveText(/machines (has|have) this plan\.$/);
  await expectAccessible(page, 'a plan with machines');

  await page.goto('/#/plans');
  await main(page).getByRole('button', { name: 'Pause: mail' }).click();
  await expect(main(page).getByRole('button', { name: 'Resume: mail' })).toBeVisible();
  await expectAccessible(page, 'a plan that is paused');
  await rows.filter({ hasText: 'mail' }).click({ position: { x: 300, y: 20 } });
  await expect(heading(page)).toHaveText('This plan is paused.');
  await main(page).getByRole('button', { name: 'Delete the plan mail' }).click();
  await page.getByRole('dialog').getByLabel('Type mail to confirm').fill('mail');
  await page.getByRole('dialog').getByRole('button', { name: 'Delete it' }).click();
  await expect(page).toHaveURL(/#\/plans$/);
  await stage.call('PUT', `/api/hosts/${atlas.host}/tags`, { tags: [] });
});

test('the settings keep addresses and theme, and tell what was done', async ({ page, stage }) => {
  await page.goto('/#/settings');
  await expect(main(page)).toContainText('Made an install line');
  await expectAccessible(page, 'the settings');
  const addresses = main(page).getByLabel('Addresses');
  await addresses.fill(`${stage.opening.agent_address}\nbackup.example:9781`);
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('Agents that are connected know it already.')).toBeVisible();
  await main(page).getByLabel('Dark').check();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await page.reload();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await expect(addresses).toHaveValue(/backup\.example:9781/);
  await main(page).getByLabel('As the system').check();
});

test('the settings list plans and repositories, and delete what nothing uses', async ({
  page,
  stage,
}) => {
  await stage.call('POST', '/api/repositories', { name: 'spare store', url: '/srv/spare' });
  await page.goto('/#/settings');
  const plans = main(page).getByRole('region', { name: 'Plans' });
  await expect(plans).toContainText('Into atlas store, on atlas.');
  const repositories = main(page).getByRole('region', { name: 'Repositories' });
  await expect(repositories).toContainText('Used by atlas files.');
  await expectAccessible(page, 'the lists of plans and repositories');
  const remove = repositories.getByRole('button', { name: /^Delete the repository/ });
  await expect(remove).toHaveCount(1);
  await remove.click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('/srv/spare');
  await dialog.getByLabel('Type spare store to confirm').fill('spare store');
  await expectAccessible(page, 'the deletion of a repository');
  await dialog.getByRole('button', { name: 'Delete it' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(repositories).not.toContainText('spare store');
});

test('the palette finds machines and does things, and the sheet shows the keys', async ({
  page,
}) => {
  await page.goto('/#/settings');
  await expect(heading(page)).toHaveText('Settings');
  await page.keyboard.press('Control+k');
  await expect(page.getByRole('combobox')).toBeFocused();
  await expectAccessible(page, 'the palette');
  await page.keyboard.type('nova');
  await expect(page.getByRole('option', { name: /nova/ }).first()).toBeVisible();
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(new RegExp(`#/machines/${nova.host}`));
  await page.keyboard.press('?');
  const sheet = page.getByRole('dialog', { name: 'Keyboard shortcuts' });
  await expect(sheet).toContainText('Go to the fleet');
  await expectAccessible(page, 'the sheet of keys');
  await page.keyboard.press('Escape');
  await expect(sheet).toHaveCount(0);
  await page.keyboard.press('g');
  await page.keyboard.press('f');
  await expect(page).toHaveURL(/#\/$/);
});

test('what an unknown address shows leads back', async ({ page }) => {
  await page.goto('/#/nowhere/at/all');
  await expect(heading(page)).toBeVisible();
  await expectAccessible(page, 'an unknown address');
  await page.goto('/#/machines/01900000-0000-7000-8000-000000000000');
  await expect(main(page)).toContainText('There is no such machine.');
  await expectAccessible(page, 'an unknown machine');
  await page.goto('/#/plans/01900000-0000-7000-8000-000000000000');
  await expect(main(page)).toContainText('There is no such plan.');
  await expectAccessible(page, 'an unknown plan');
});

test('a machine is revoked and removed with its name typed', async ({ page }) => {
  await page.goto(`/#/machines/${nova.host}/settings`);
  for (const [button, verb] of [
    ['Revoke', 'Revoke it'],
    ['Remove', 'Remove it'],
  ] as const) {
    await main(page).getByRole('button', { name: button, exact: true }).click();
    await page.getByRole('dialog').getByLabel('Type nova to confirm').fill('nova');
    await page.getByRole('dialog').getByRole('button', { name: verb }).click();
    await expect(page.getByRole('dialog')).toHaveCount(0);
    await expectAccessible(page, `a machine after ${button}`);
  }
  await expect(main(page)).toContainText('The machine was removed.');
});

test('a page outlives its manager and shows what happened meanwhile', async ({
  page,
  stage,
  complaints,
}) => {
  await page.goto('/');
  await expect(heading(page)).toBeVisible();
  await stage.manager('kill');
  await expect(page.getByText('No connection to the manager.')).toBeVisible();
  await expectAccessible(page, 'a page without its manager');
  await stage.manager('start');
  await expect(page.getByText('No connection to the manager.')).toHaveCount(0);
  const others = complaints.splice(0).filter((it) => !it.includes('net::ERR_'));
  expect(others).toEqual([]);
});

test('a machine that asks is compared, confirmed and approved', async ({ page, stage }) => {
  const approve = main(page).getByRole('button', { name: 'Approve' });
  const name = page.getByLabel('What is the machine called?');
  await page.goto('/#/add');
  const command = main(page).getByLabel('announce command', { exact: true });
  await expect(command).toContainText(
    `restic-manager-agent announce --address='${stage.opening.agent_address}'`,
  );
  await expectAccessible(page, 'the second way to add a machine');
  const code = await stage.announce('vega');
  await expect(main(page)).toContainText(`asks to join — code ${code}`);
  await page.goto('/');
  const needs = main(page).getByRole('list', { name: 'What needs you' });
  await expect(needs).toContainText(`asks to join — code ${code}`);
  const lines = needs.getByText(code, { exact: true });
  expect(await lines.evaluate((it) => it.getClientRects().length), 'the code is whole').toBe(1);
  await expectAccessible(page, 'a fleet that a machine asks to join');
  await needs.getByRole('link', { name: 'Decide' }).click();

  await expect(heading(page)).toContainText('asks to join');
  await expect(main(page).getByText(code, { exact: true })).toBeVisible();
  await expect(main(page)).toContainText('Not confirmed on the machine yet.');
  await expect(approve).toBeDisabled();
  await expectAccessible(page, 'a machine that asks to join');
  await stage.typeCode('vega', code.toLowerCase());
  await expect(main(page)).toContainText('Confirmed on the machine.');
  await expectAccessible(page, 'a machine that was confirmed');
  await name.fill('atlas');
  await page.keyboard.press('Enter');
  await expect(name).toHaveAttribute('aria-invalid', 'true');
  await expect(name).toHaveAccessibleDescription(/has this name already/);
  await name.fill('vega');
  await main(page).getByLabel('Plan').selectOption('atlas files');
  await approve.click();
  await expect(heading(page)).toContainText('Not backed up yet.');
  await expect(main(page)).toContainText('Next, start its agent on the machine, as root.');
  await expect(main(page)).toContainText('restic-manager-agent run');
  await expectAccessible(page, 'a machine that was let in');
  const { host } = await stage.announced('vega');
  await expect(page).toHaveURL(new RegExp(`#/machines/${host}$`));
  await stage.agent('vega', 'stop');

  const other = await stage.announce('mira');
  await stage.typeCode('mira', other);
  await page.goto('/#/add');
  await main(page)
    .getByRole('link', { name: `code ${other}` })
    .click();
  await main(page).getByRole('button', { name: 'Refuse' }).click();
  await expect(page).toHaveURL(/#\/$/);
  const { host: none, printed } = await stage.announced('mira');
  expect(none).toBeNull();
  expect(printed).toContain('admin refused this machine');
  await page.goBack();
  await expect(heading(page)).toHaveText('This machine does not ask any more.');
  await expectAccessible(page, 'a machine that does not ask any more');
});
