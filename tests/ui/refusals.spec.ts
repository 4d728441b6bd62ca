// Each refusal of the manager that a person can meet reaches its field, a notice or a toast, with what
// to do; and nothing that was typed is lost.
import { readFile } from 'node:fs/promises';
import type { Locator, Page } from '@playwright/test';
import { expectAccessible } from './support/axe';
import type { Machine, Puppet } from './support/stage';
import { expect, test } from './support/test';

test.use({ stageOf: 'refusals' });

let atlas: Machine;
let probe: Puppet;
/** The codes of all refusals that the pages of this file met. */
const met = new Set<string>();

test.beforeAll(async ({ stage }) => {
  test.setTimeout(300_000);
  atlas = await stage.machine('atlas', 'backed_up');
  probe = await stage.puppet('probe');
  const init = await stage.run(probe.host, { kind: 'init', repository_id: probe.repository });
  await stage.say('probe', init, { started: 'init', finished: {} });
});

test.beforeEach(({ page }) => {
  page.on('response', (response) => {
    if (response.status() < 400) return;
    void response
      .json()
      .then((body: { code?: string }) => body.code && met.add(body.code))
      .catch(() => undefined);
  });
});

const main = (page: Page) => page.getByRole('main');
const toast = (page: Page, words: string | RegExp) =>
  page.getByRole('region', { name: 'Messages' }).getByText(words);

/** Keeps news from the page, so that it acts on how things were. */
async function makeStale(page: Page): Promise<void> {
  await page.route('**/api/events*', (route) => route.abort());
}

/** What Chromium says of connections that were cut on purpose. */
function expectOnlyBroken(complaints: string[]): void {
  const others = complaints.splice(0).filter((it) => !it.includes('net::ERR_'));
  expect(others).toEqual([]);
}

async function expectRefused(field: Locator, words: string | RegExp): Promise<void> {
  await expect(field).toHaveAttribute('aria-invalid', 'true');
  await expect(field).toHaveAccessibleDescription(words);
}

interface Form {
  name: string;
  paths: string;
  url: string;
  user?: string;
  credential?: string;
}

async function fillAddMachine(page: Page, form: Form): Promise<void> {
  await page.goto('/#/add');
  await page.getByLabel('What is the machine called?').fill(form.name);
  for (const label of ['By a new plan', 'A new repository']) {
    await main(page).getByLabel(label).check();
  }
  await page.getByLabel('Folders and files').fill(form.paths);
  await page.getByLabel('Location').fill(form.url);
  await page
    .getByLabel('User', { exact: false })
    .first()
    .fill(form.user ?? '');
  await page.getByLabel('Password for the rest-server').fill(form.credential ?? '');
}

const submit = (page: Page) => page.getByRole('button', { name: 'Make the install line' }).click();

test('what is wrong with a new machine is said at its field, and the rest stays', async ({
  page,
  stage,
}) => {
  await fillAddMachine(page, { name: '', paths: '/srv', url: 'rest:http://localhost:1/x/' });
  const name = page.getByLabel('What is the machine called?');
  const url = page.getByLabel('Location');
  const paths = page.getByLabel('Folders and files');
  const credential = page.getByLabel('Password for the rest-server');
  const certificate = page.getByLabel('Certificate of its authority (PEM)');
  await paths.fill('');
  await submit(page);
  await expectRefused(name, /Say what the machine is called/);
  await expectRefused(paths, /at least one folder or file/);
  await expect(name).toBeFocused();
  await name.fill('web-1');
  await expect(name, 'what is changed is not wrong any more').not.toHaveAttribute('aria-invalid');
  await paths.fill('/srv');

  await url.fill('rest:http://user:secret@localhost:1/x/');
  await submit(page);
  await expectRefused(url, /./);
  await expect(url).toBeFocused();
  await url.fill('s3:https://minio.example/bucket');
  await submit(page);
  await expectRefused(url, /cannot be given yet.*rclone:remote:path/);
  await url.fill('rest:http://localhost:1/x/');

  await credential.fill('a credential without a user');
  await submit(page);
  await expectRefused(page.getByLabel('User', { exact: false }).first(), /go together/);
  await expect(credential).toHaveValue('a credential without a user');
  await credential.fill('');

  await page.getByText('Certificate of the server, if it is its own').click();
  await certificate.fill('no certificate');
  await submit(page);
  await expectRefused(certificate, /no certificate in PEM form/);
  await certificate.fill('x'.repeat(2 * 1024 * 1024));
  await submit(page);
  await expect(main(page).getByRole('alert')).toContainText('larger than 1 MiB');
  await certificate.fill('');

  await page.getByLabel('Name', { exact: false }).last().fill('atlas store');
  const repositoryName = main(page).locator('input[name="repository-name"]');
  await repositoryName.fill('atlas store');
  await submit(page);
  await expectRefused(repositoryName, /has this name already/);
  await repositoryName.fill('web-1 store');

  await paths.fill('not/absolute');
  await submit(page);
  await expectRefused(paths, /absolute|begin/i);
  await expectAccessible(page, 'refused fields');
  await paths.fill('/srv');
  await page.getByLabel('daily').fill('many');
  await submit(page);
  await expect(page.getByLabel('daily')).toHaveAttribute('aria-invalid', 'true');
  await page.getByLabel('daily').fill('7');

  const planName = main(page).locator('input[name="plan-name"]');
  await planName.fill('atlas files');
  await submit(page);
  await expectRefused(planName, /has this name already/);
  await planName.fill('web-1 files');

  await name.fill('atlas');
  await submit(page);
  await expectRefused(name, /has this name already/);
  for (const path of ['/api/repositories', '/api/plans']) {
    const { body } = await stage.call('GET', path);
    expect(JSON.stringify(body), `nothing is kept in ${path}`).not.toContain('web-1');
  }
  await name.fill('web-1');
  await submit(page);
  await expect(page.getByLabel('install line', { exact: true })).toBeVisible();

  const enrolments = (await stage.call('GET', '/api/enrolments')).body as { id: string }[];
  await stage.call('DELETE', `/api/enrolments/${enrolments[0]?.id ?? ''}`);
  await expect(main(page)).toContainText('This line was withdrawn and lets nobody in any more.');
  await expectAccessible(page, 'a line that was withdrawn');
  await page.getByRole('button', { name: 'Make a new one' }).click();
  await expect(page.getByLabel('install line', { exact: true })).toBeVisible();

  await page.getByRole('button', { name: 'Start over' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('shown this once');
  await expect(dialog).toContainText('“web-1 files” and the repository “web-1 store” stay');
  await expectAccessible(page, 'starting over');
  await dialog.getByRole('button', { name: 'Back' }).click();
  await expect(page.getByLabel('repository password', { exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'Start over' }).click();
  await dialog.getByRole('button', { name: 'Start over' }).click();
  await expect(name).toHaveValue('');
  await expect(main(page).getByLabel('By a new plan')).toBeChecked();
});

test('a server that cannot be used is told before anything is saved', async ({ page, stage }) => {
  const { credential, url } = await stage.user('tested');
  await fillAddMachine(page, { name: 'tested', paths: '/srv', url, user: 'tested', credential });
  const check = async (at: Locator, words: RegExp) => {
    await page.getByRole('button', { name: 'Test the connection' }).click();
    await expect(page.getByRole('button', { name: 'Test the connection' })).toBeEnabled();
    await expect(at).toContainText(words);
  };
  const fields = main(page);
  await check(fields, /certificate/i);
  const certificate = page.getByLabel('Certificate of its authority (PEM)');
  if (!(await certificate.isVisible())) {
    await page.getByText('Certificate of the server, if it is its own').click();
  }
  await certificate.fill(stage.opening.ca_pem);
  await page.getByLabel('Password for the rest-server').fill('wrong');
  await check(fields, /refused|password/i);
  await page.getByLabel('Password for the rest-server').fill(credential);
  await page.getByLabel('Location').fill('rest:https://localhost:1/tested/');
  await check(fields, /cannot be reached|does not answer|failed/i);
  await page.getByLabel('Location').fill('/srv/backups');
  await check(fields, /Only a rest-server can be asked from here. Go on/);
  await expect(page.getByLabel('Location')).not.toHaveAttribute('aria-invalid');
  await page.getByLabel('Location').fill(url);
  await check(fields, /the place is free/);
  await expect(page.getByLabel('What is the machine called?')).toHaveValue('tested');
});

test('without an address for agents no line is made', async ({ page, stage }) => {
  await stage.call('PUT', '/api/system/addresses', { addresses: [] });
  await page.goto('/#/add');
  await page.getByLabel('What is the machine called?').fill('nowhere');
  await main(page).getByLabel('As a plan that is here already').check();
  await main(page).getByLabel('Plan', { exact: true }).selectOption('atlas files');
  await submit(page);
  await expect(main(page).getByRole('alert')).toContainText('no address');
  await expect(page.getByLabel('What is the machine called?')).toHaveValue('nowhere');
  const addresses = [stage.opening.agent_address];
  await stage.call('PUT', '/api/system/addresses', { addresses });
});

test('a plan that somebody deleted meanwhile is told', async ({ page, stage, complaints }) => {
  const form = { name: 'doomed', repository_id: atlas.repository, paths: ['/x'], host_ids: [] };
  const more = { excludes: [], tags: [], retention: null };
  const made = await stage.call('POST', '/api/plans', { ...form, ...more });
  await makeStale(page);
  await page.goto('/#/add');
  await page.getByLabel('What is the machine called?').fill('late');
  await main(page).getByLabel('As a plan that is here already').check();
  await main(page).getByLabel('Plan', { exact: true }).selectOption('doomed');
  const { id } = made.body as { id: string };
  await stage.call('DELETE', `/api/plans/${id}`, { confirm: 'doomed' });
  await submit(page);
  await expect(main(page)).toContainText('There is no such plan.');
  await expect(page.getByLabel('What is the machine called?')).toHaveValue('late');
  expectOnlyBroken(complaints);
});

test('a machine that does not ask any more is not approved', async ({
  page,
  stage,
  complaints,
}) => {
  const code = await stage.announce('vega');
  await stage.typeCode('vega', code);
  const asking = async () => {
    const { body } = await stage.call('GET', '/api/announcements');
    return (body as { id: string; is_confirmed: boolean }[]).find((it) => it.is_confirmed);
  };
  await expect.poll(asking).toBeDefined();
  const id = (await asking())?.id ?? '';
  await makeStale(page);
  await page.goto(`/#/announcements/${id}`);
  const name = page.getByLabel('What is the machine called?');
  await name.fill('atlas');
  await main(page).getByRole('button', { name: 'Approve' }).click();
  await expectRefused(name, /has this name already/);
  await name.fill('vega');
  await stage.call('POST', `/api/announcements/${id}/refuse`);
  await main(page).getByRole('button', { name: 'Approve' }).click();
  await expect(main(page).getByRole('alert')).toContainText('does not ask any more');
  await expect(name).toHaveValue('vega');
  await expectAccessible(page, 'a machine that does not ask any more');
  const { host, printed } = await stage.announced('vega');
  expect(host).toBeNull();
  expect(printed).toContain('admin refused this machine');
  expectOnlyBroken(complaints);
});

test('a plan is refused at its fields, those that are folded away too', async ({ page, stage }) => {
  await page.goto('/#/plans/new');
  const form = main(page).getByRole('form', { name: 'New plan' });
  const field = (label: string) => form.getByLabel(label, { exact: true });
  const name = field('Name of the plan');
  await name.fill('atlas files');
  await field('Folders and files').fill('/etc');
  const place = field('Into the repository');
  await place.selectOption('The store on this computer');
  const make = () => form.getByRole('button', { name: 'Make the plan' }).click();
  await make();
  await expectRefused(name, /has this name already/);
  await name.fill('refused');
  await make();
  await expectRefused(place, /The store has no folder yet/);
  await place.selectOption(atlas.repository);
  await form.getByText('More: limits, options and hooks').click();
  for (const [label, typed, why] of [
    ['Upload at most (KiB/s)', '0', /between 1 and/],
    ['Files read at once', '129', /between 1 and 128/],
    ['A run may take (minutes)', 'long', /whole number/],
    ['Give up if stuck for (minutes)', '1441', /between 1 and 1440/],
    ['Wait for a lock (minutes)', '0', /between 1 and 1440/],
    ['Before', 'a/b', /1 to 64 letters/],
    ['Each may take (seconds)', '0', /between 1 and/],
  ] as const) {
    await field(label).fill(typed);
    await make();
    await expectRefused(field(label), why);
    await expect(field(label)).toHaveValue(typed);
    await field(label).fill('');
  }
  const tags = field('All machines with one of these tags');
  await tags.fill('a/b');
  await make();
  await expectRefused(tags, /no blanks/);
  await expect(form).toContainText('a/b');
  await expectAccessible(page, 'a plan that is refused');
  const { body } = await stage.call('GET', '/api/plans');
  expect((body as { name: string }[]).some((it) => it.name === 'refused')).toBe(false);
  await form.getByRole('button', { name: 'Discard changes' }).click();
});

test('a plan that somebody changed meanwhile keeps their change and what is typed', async ({
  page,
  stage,
}) => {
  const form = { name: 'two people', repository_id: atlas.repository, paths: ['/x'] };
  const { body } = await stage.call('POST', '/api/plans', form);
  const { id } = body as { id: string };
  await page.goto(`/#/plans/${id}`);
  const excludes = main(page).getByLabel('Leave out');
  await excludes.fill('*.iso');
  await stage.call('PUT', `/api/plans/${id}`, { paths: ['/y'], excludes: ['*.tmp'] });
  await main(page).getByRole('button', { name: 'Save' }).click();
  const notice = main(page).getByRole('alert');
  await expect(notice).toContainText('Somebody else changed this plan meanwhile.');
  await expect(notice).toContainText('folders and files');
  await expect(excludes).toHaveValue('*.iso');
  await expect(main(page).getByLabel('Folders and files')).toHaveValue('/y');
  await expectAccessible(page, 'a plan that somebody changed meanwhile');
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('The plan two people is saved.')).toBeVisible();
  const saved = await stage.call('GET', `/api/plans/${id}`);
  expect(saved.body).toMatchObject({ paths: ['/y'], excludes: ['*.iso'] });
  await stage.call('DELETE', `/api/plans/${id}`);
});

test('what a machine could not be told is refused, and what is typed stays', async ({
  page,
  stage,
}) => {
  const form = { name: 'long', repository_id: atlas.repository, paths: ['/x'] };
  const { body } = await stage.call('POST', '/api/plans', { ...form, host_ids: [atlas.host] });
  const { id } = body as { id: string };
  await page.goto(`/#/plans/${id}`);
  const excludes = main(page).getByLabel('Leave out');
  const typed = Array.from({ length: 205 }, (_, n) => `${n}${'x'.repeat(3990)}`).join('\n');
  await excludes.fill(typed);
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expect(main(page).getByRole('alert')).toContainText('more than 768 KiB');
  await expect(excludes).toHaveValue(typed);
  await stage.call('DELETE', `/api/plans/${id}`, { confirm: 'long' });
});

test('what is no tag is refused at its field', async ({ page }) => {
  await page.goto(`/#/machines/${atlas.host}/settings`);
  const tags = main(page).getByLabel('Tags of this machine');
  await tags.fill('x'.repeat(41));
  await main(page).getByRole('button', { name: 'Set the tags' }).click();
  await expectRefused(tags, /1 to 40 letters/);
  await expect(main(page)).toContainText('x'.repeat(41));
});

test('the name, plan and addresses of what is there are refused at their fields', async ({
  page,
}) => {
  await page.goto(`/#/machines/${atlas.host}/settings`);
  const name = main(page).getByLabel('Name in this fleet');
  for (const [typed, words] of [
    ['probe', /has this name already/],
    ['', /A name is needed/],
    ['x'.repeat(101), /longer than 100/],
  ] as const) {
    await name.fill(typed);
    await main(page).getByRole('button', { name: 'Rename' }).click();
    await expectRefused(name, words);
    await expect(name).toHaveValue(typed);
  }
  await main(page).getByRole('button', { name: 'Change atlas files' }).click();
  const paths = main(page).getByLabel('Folders and files');
  const excludes = main(page).getByLabel('Leave out');
  const was = await paths.inputValue();
  await paths.fill('');
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expectRefused(paths, /at least one path/);
  await paths.fill(was);
  await excludes.fill('y'.repeat(5000));
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expectRefused(excludes, /longer than 4096/);
  await expect(excludes).toHaveValue('y'.repeat(5000));

  await page.goto('/#/settings');
  const addresses = main(page).getByLabel('Addresses');
  await addresses.fill('no port here');
  await main(page).getByRole('button', { name: 'Save' }).click();
  await expectRefused(addresses, /host:port/);
  await expect(addresses).toHaveValue('no port here');
});

test('what is wrong with a repository is said at its field, which gets the focus', async ({
  page,
  stage,
}) => {
  const atlasUrl = (await stage.user('elsewhere')).url.replace('elsewhere', 'atlas');
  await page.goto(`/#/machines/${probe.host}/settings`);
  await main(page).getByRole('button', { name: 'Change the repository probe store' }).click();
  const form = main(page).getByRole('form', { name: 'Change probe store' });
  const field = (label: string) => form.getByLabel(label);
  const password = field('Repository password');
  const good = await field('Location').inputValue();
  for (const [label, typed, words] of [
    ['Name', 'atlas store', /has this name already/],
    ['Location', atlasUrl.replace(/\/+$/, ''), /atlas store is at this location already/],
    ['Location', 'rest:http://user:secret@localhost:1/x/', /user or password/],
    ['User', 'a:b', /no colon/],
    ['Certificate of its authority (PEM)', 'no certificate', /no certificate in PEM form/],
    ['Password for the rest-server', 'without a user', /go together/],
  ] as const) {
    const at = field(label).first();
    const was = await at.inputValue();
    await at.fill(typed);
    await form.getByRole('button', { name: 'Save' }).click();
    const refused = label === 'Password for the rest-server' ? field('User').first() : at;
    await expectRefused(refused, words);
    await expect(refused).toBeFocused();
    await expect(at).toHaveValue(typed);
    await at.fill(was);
  }
  await field('User').first().fill('probe');
  await form.getByRole('button', { name: 'Save' }).click();
  await expectRefused(field('Password for the rest-server'), /go together/);
  await field('User').first().fill('');

  await password.fill('another one');
  await field('Type probe store to replace its password').fill('probe');
  await form.getByRole('button', { name: 'Save' }).click();
  await expectRefused(field('Type probe store to replace its password'), /does not match/);
  await expectAccessible(page, 'a repository that was refused');
  await expect(password).toHaveValue('another one');
  await expect(field('Location')).toHaveValue(good);
  await form.getByRole('button', { name: 'Discard changes' }).click();
  await expect(form).toHaveCount(0);
});

test('a further plan without a place, and one whose name is taken, are refused', async ({
  page,
}) => {
  await page.goto(`/#/machines/${probe.host}/settings`);
  await main(page).getByRole('button', { name: 'New plan' }).click();
  const form = main(page).getByRole('form', { name: 'New plan' });
  await form.getByLabel('Folders and files').fill('not/absolute');
  await form.getByRole('button', { name: 'Make the plan' }).click();
  await expect(form).toContainText('Choose where its snapshots go.');
  await form.getByLabel('Into the repository').selectOption(atlas.repository);
  await form.getByRole('button', { name: 'Make the plan' }).click();
  await expectRefused(form.getByLabel('Folders and files'), /absolute/);
  await form.getByLabel('Folders and files').fill('/srv');
  await form.getByLabel('When').selectOption('At other times');
  const times = form.getByLabel('Minute, hour, day of the month');
  await times.fill('61 * * * *');
  await expectRefused(times, /“61” is no minute: use 0 to 59/);
  await form.getByRole('button', { name: 'Make the plan' }).click();
  await expectRefused(times, /“61” is no minute/);
  await expect(times).toBeFocused();
  await times.fill('0 4 * * mon-fri');
  await expect(times).not.toHaveAttribute('aria-invalid');
  await expect(form).toContainText('Next, by the clock of the machine');
  await form.getByLabel('Name of the plan').fill('atlas files');
  await form.getByRole('button', { name: 'Make the plan' }).click();
  await expectRefused(form.getByLabel('Name of the plan'), /has this name already/);
  await form.getByRole('button', { name: 'Discard changes' }).click();
  await expect(form).toHaveCount(0);
});

test('a repository that came into use meanwhile is not deleted', async ({
  page,
  stage,
  complaints,
}) => {
  const form = { name: 'unused', url: '/srv/unused' };
  const made = await stage.call('POST', '/api/repositories', form);
  await makeStale(page);
  await page.goto('/#/settings');
  await main(page).getByRole('button', { name: 'Delete the repository unused' }).click();
  const { repository } = made.body as { repository: { id: string } };
  const plan = { name: 'user', repository_id: repository.id, paths: ['/x'] };
  await stage.call('POST', '/api/plans', plan);
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Type unused to confirm').fill('unused');
  await dialog.getByRole('button', { name: 'Delete it' }).click();
  await expectRefused(dialog.getByLabel('Type unused to confirm'), /still writes into/);
  expectOnlyBroken(complaints);
});

test('a run that is going already is told with the way to it', async ({ page, stage }) => {
  const run = await stage.run(probe.host, { kind: 'check', repository_id: probe.repository });
  await page.goto(`/#/machines/${probe.host}/settings`);
  await main(page).getByRole('button', { name: 'Check', exact: true }).click();
  await expect(toast(page, /waiting or going already/)).toBeVisible();
  await expectAccessible(page, 'a toast');
  await page
    .getByRole('region', { name: 'Messages' })
    .getByRole('link', { name: 'Open the run' })
    .click();
  await expect(page).toHaveURL(new RegExp(run));
  await stage.say('probe', run, { started: 'check', finished: {} });
});

test('what changed behind the back of a page is told when it is asked for', async ({
  page,
  stage,
  complaints,
}) => {
  const doomed = await stage.puppet('doomed');
  const init = await stage.run(doomed.host, { kind: 'init', repository_id: doomed.repository });
  await stage.say('doomed', init, { started: 'init', finished: {} });
  await makeStale(page);
  await page.goto(`/#/machines/${doomed.host}/settings`);
  const settings = main(page);
  await expect(settings.getByRole('button', { name: 'Unlock' })).toBeVisible();

  // Its name is another now, so the one that is typed confirms nothing.
  await stage.call('PATCH', `/api/hosts/${doomed.host}`, { name: 'renamed' });
  await settings.getByRole('button', { name: 'Revoke', exact: true }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Type doomed to confirm').fill('doomed');
  await dialog.getByRole('button', { name: 'Revoke it' }).click();
  await expectRefused(dialog.getByLabel('Type doomed to confirm'), /./);
  await expect(dialog.getByLabel('Type doomed to confirm')).toHaveValue('doomed');
  await expectAccessible(page, 'a confirmation that was refused');
  await dialog.getByRole('button', { name: 'Keep it' }).click();

  // Its repository takes only additions now.
  await stage.call('PUT', `/api/repositories/${doomed.repository}`, { append_only: true });
  await settings.getByRole('button', { name: 'Prune: show what would go' }).click();
  await expect(settings.getByRole('alert')).toContainText('takes new data only');
  await stage.call('PUT', `/api/repositories/${doomed.repository}`, { append_only: false });

  // Its plan is another machine's now.
  await stage.call('PUT', `/api/plans/${doomed.plan}`, { host_ids: [] });
  await settings.getByRole('button', { name: 'Unlock' }).click();
  await expect(toast(page, /does not know that repository/)).toBeVisible();
  await page.getByRole('link', { name: 'Overview' }).click();
  await main(page)
    .getByRole('button', { name: /: doomed$/ })
    .first()
    .click();
  await expect(
    toast(page, /does not know that repository|does not have that plan/).first(),
  ).toBeVisible();
  await stage.call('PUT', `/api/plans/${doomed.plan}`, { host_ids: [doomed.host] });

  await page
    .getByRole('navigation', { name: 'Machine' })
    .getByRole('link', { name: 'Settings' })
    .click();
  await expect(settings.getByRole('button', { name: 'Unlock' })).toBeEnabled();
  await stage.call('POST', `/api/hosts/${doomed.host}/revoke`, { confirm: 'renamed' });
  await settings.getByRole('button', { name: 'Unlock' }).click();
  await expect(toast(page, /was revoked/)).toBeVisible();
  expectOnlyBroken(complaints);
});

test('a snapshot that is not there and a machine that is away are told', async ({
  page,
  stage,
}) => {
  const base = `/#/machines/${atlas.host}/snapshots/${atlas.repository}`;
  await page.goto(`${base}/${'0'.repeat(64)}`);
  await expect(main(page).getByRole('alert')).toContainText('no such snapshot');
  await expectAccessible(page, 'a snapshot that is not there');
  await main(page).getByRole('button', { name: 'Restore the whole snapshot' }).click();
  await expect(main(page).getByRole('alert')).toHaveCount(2);
  await stage.agent('atlas', 'stop');
  await page.goto(`${base}/${atlas.snapshot}`);
  await expect(main(page).getByRole('alert')).toContainText('connected');
  await stage.agent('atlas', 'start');
  await main(page).getByRole('button', { name: 'Try again' }).click();
  await expect(main(page).getByRole('link', { name: 'tmp' })).toBeVisible();
  await page.goto('/#/runs/01900000-0000-7000-8000-000000000000');
  await expect(main(page).getByRole('alert')).toContainText('no such');
});

test('what is typed outlives the end of the session and of the manager', async ({
  page,
  stage,
  complaints,
  context,
}) => {
  await fillAddMachine(page, { name: 'typed', paths: '/srv/typed', url: 'rest:http://x/y/' });
  await context.clearCookies();
  await submit(page);
  await expect(page.getByText('Your session has ended.')).toBeVisible();
  await expectAccessible(page, 'a session that has ended');
  await page.getByLabel('Password', { exact: true }).fill(stage.opening.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('heading', { name: 'Sign in' })).toHaveCount(0);
  await expect(page.getByLabel('What is the machine called?')).toHaveValue('typed');
  await expect(page.getByLabel('Folders and files')).toHaveValue('/srv/typed');

  await stage.manager('kill');
  await submit(page);
  await expect(main(page).getByRole('alert')).toContainText('The manager does not answer.');
  await expect(page.getByLabel('Location')).toHaveValue('rest:http://x/y/');
  await stage.manager('start');
  await expect(page.getByText('No connection to the manager.')).toHaveCount(0);
  await submit(page);
  await expect(page.getByLabel('install line', { exact: true })).toBeVisible();
  expectOnlyBroken(complaints);
});

test.describe('signing in', () => {
  test.use({ isSignedIn: false });

  test('too many attempts have to wait, and are told how long', async ({ page }) => {
    await page.goto('/');
    const password = page.getByLabel('Password');
    for (let attempt = 1; attempt <= 5; attempt += 1) {
      await password.fill(`wrong ${attempt}`);
      await Promise.all([page.waitForResponse('**/api/session'), page.keyboard.press('Enter')]);
      await expect(page.getByRole('button', { name: 'Sign in' })).toBeEnabled();
    }
    await page.keyboard.press('Enter');
    await expect(page.getByRole('alert')).toContainText('Too many attempts.');
    await expect(page.getByRole('alert')).toContainText(/looked at in \d/);
    await expect(password).toHaveValue('wrong 5');
    await expectAccessible(page, 'too many attempts');
  });
});

/** Codes that no page can make the manager answer with, and why. */
const ELSEWHERE: Record<string, string[]> = {
  'the page shows it instead': ['store_away'],
  'said to agents': [
    'token_unknown',
    'token_expired',
    'token_used',
    'host_unknown',
    'client_key_missing',
    'key_already_enrolled',
    'commitment_broken',
    'announcement_refused',
    'agent_too_old',
    'capability_missing',
    'clone_suspected',
    'enrolment_suspect',
    'manager_behind',
    'agent_behind',
    'journal_forked',
    'journal_damaged',
    'connection_replaced',
    'frame_invalid',
    'frame_too_large',
    'hello_expected',
  ],
  'how a run ends, not how a request does': [
    'policy_forbids',
    'expired',
    'cancelled',
    'interrupted',
    'lost',
    'on_battery',
    'metered',
    'repository_busy',
    'timed_out',
    'stalled',
    'hook_failed',
    'hook_unknown',
    'restic_missing',
    'restic_too_old',
    'repository_missing',
    'repository_exists',
    'wrong_password',
    'repository_locked',
    'repository_damaged',
    'snapshots_suspect',
    'source_missing',
    'source_empty',
    'disk_full',
    'files_unreadable',
    'restic_failed',
  ],
  'the pages do not ask for it': ['kind_unknown', 'retention_empty', 'retention_unknown'],
  'said by the desktop app, before there are pages': [
    'data_unusable',
    'database_too_new',
    'keyring_failed',
    'keyring_locked',
    'keyring_missing',
    'listen_failed',
    'stopping',
    'vault_key_missing',
    'vault_key_wrong',
  ],
  'the pages come from the same place': ['foreign_origin'],
  'alarms.spec.ts meets them': ['channel_refused', 'channel_unreachable'],
  'takes minutes, or a fault of the manager': ['no_answer', 'internal'],
};

test('every code of the interface was met or cannot be', async () => {
  const path = new URL('../../crates/server/openapi.json', import.meta.url);
  const document = JSON.parse(await readFile(path, 'utf8')) as {
    components: { schemas: { Code: { enum: string[] } } };
  };
  const expected = new Set(document.components.schemas.Code.enum);
  for (const code of Object.values(ELSEWHERE).flat()) expected.delete(code);
  expect([...met].filter((code) => code !== 'unknown').sort()).toEqual([...expected].sort());
});
