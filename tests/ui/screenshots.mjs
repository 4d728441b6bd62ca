// Pictures of every screen, from the real headless server with a made fleet, in each size and theme.
// Run by `cargo xtask screenshots`; the last line is one JSON object.
import { chromium } from '@playwright/test';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

const SIZES = [
  { width: 1024, height: 700 },
  { width: 1440, height: 900 },
  { width: 3840, height: 2160 },
];
const THEMES = ['light', 'dark'];
const FLEETS = [0, 3, 300];

const { values: options } = parseArgs({
  options: {
    /** The folder of the built programs. */
    programs: { type: 'string' },
    /** The folder of the built pages. */
    pages: { type: 'string' },
    /** Where the pictures go; what is in it is removed, unless `--only` asks for some. */
    out: { type: 'string' },
    browser: { type: 'string' },
    /** Only pages whose names begin so; may be repeated, as may the others below. */
    only: { type: 'string', multiple: true },
    fleet: { type: 'string', multiple: true },
    size: { type: 'string', multiple: true },
    theme: { type: 'string', multiple: true },
  },
});
const wants = (list, word) => !list || list.includes(String(word));
/** Whether a picture of this name is asked for. */
const begins = (name) => !options.only || options.only.some((prefix) => name.startsWith(prefix));
const sizes = SIZES.filter(({ width, height }) => wants(options.size, `${width}x${height}`));
const themes = THEMES.filter((theme) => wants(options.theme, theme));

/** Programs that were started, newest last. */
const started = [];

/** Runs a program to its end. */
function run(program, args, input = '') {
  return new Promise((resolve, reject) => {
    const child = spawn(join(options.programs, program), args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let said = '';
    child.stdout.on('data', (data) => (said += data));
    child.stderr.on('data', (data) => (said += data));
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(said);
      else reject(new Error(`${program} ${args[0]} ended with ${code}: ${said}`));
    });
    child.stdin.end(input);
  });
}

/** Starts a program and returns the JSON line by which it says that it is ready. */
function start(program, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(join(options.programs, program), args, {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    started.push(child);
    let said = '';
    child.stderr.on('data', (data) => (said += data));
    child.on('error', reject);
    child.on('close', (code) =>
      reject(new Error(`${program} ${args[0]} ended with ${code}: ${said}`)),
    );
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.startsWith('{"ready":true')) resolve(JSON.parse(line));
    });
  });
}

async function stopAll() {
  for (const child of started.splice(0).reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
  }
}

/** A manager with a made fleet, and a page that shows it. */
class Scene {
  /** @param store The folder of a store that is filled, if there shall be one. */
  constructor(machines, folder, store) {
    this.machines = machines;
    this.folder = folder;
    this.store = store;
    this.password = randomBytes(24).toString('base64url');
    this.count = 0;
  }

  async open(browser) {
    const data = join(this.folder, 'data');
    rmSync(this.folder, { recursive: true, force: true });
    mkdirSync(data, { recursive: true });
    const now = new Date().toISOString();
    const fleet = ['--machines', String(this.machines), '--now', now];
    const init = ['init', '--data-dir', data, '--password-stdin'];
    await run('restic-manager-headless', init, this.password);
    await run('made', ['fill', ...fleet, '--data-dir', data]);
    if (this.store) {
      await run('made', ['fill-store', ...fleet, '--data-dir', data, '--folder', this.store]);
    }
    const serve = ['serve', '--data-dir', data, '--ui-dir', options.pages];
    serve.push('--ui-listen', '127.0.0.1:0', '--agent-listen', '127.0.0.1:0');
    serve.push('--agent-address', 'manager.home.arpa:9781');
    this.manager = await start('restic-manager-headless', serve);
    this.link = ['--agent', this.manager.agent, '--ca-file', this.manager.ca_file];
    await start('made', ['play', ...fleet, ...this.link]);
    const context = await browser.newContext({
      ignoreHTTPSErrors: true,
      reducedMotion: 'reduce',
      viewport: SIZES[1],
    });
    // A busy computer must not look like a page that does not come.
    context.setDefaultTimeout(60_000);
    this.page = await context.newPage();
  }

  async close() {
    await this.page.context().close();
    await stopAll();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Goes to a place inside the app. */
  async go(hash) {
    await this.page.goto(`${this.manager.ui}/${hash}`);
  }

  /** Reads something from the manager as the page does. */
  async api(path) {
    const answer = await this.page.context().request.get(`${this.manager.ui}/api/${path}`);
    return answer.json();
  }

  /** The page as it is, in every size and theme. */
  async shoot(name, settle = async () => {}) {
    if (!begins(name)) return;
    for (const size of sizes) {
      await this.page.setViewportSize(size);
      for (const theme of themes) {
        await this.page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
        await this.page.waitForFunction(
          (wanted) => document.documentElement.dataset.theme === wanted,
          theme,
        );
        await settle();
        // Colours that are inherited change frame by frame.
        await this.page.waitForFunction(() =>
          document.getAnimations().every((animation) => animation.playState !== 'running'),
        );
        // Charts and long lists measure themselves after the window has its size.
        await this.page.evaluate(
          () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
        );
        const file = `${name}-${size.width}x${size.height}-${theme}-${this.machines}.png`;
        await this.page.screenshot({ path: join(options.out, file), caret: 'hide' });
        this.count += 1;
      }
    }
  }

  /** Waits for a text that stands on the page, once nothing of it is a skeleton any more. */
  async shows(text) {
    await this.page.getByText(text).first().waitFor();
    await this.quiet();
  }

  /** Waits for the first row of a list. */
  async lists() {
    await this.page.locator('.row-link').first().waitFor();
    await this.quiet();
  }

  async quiet() {
    await this.page.waitForFunction(() => !document.querySelector('[aria-busy="true"]'));
    await this.page.evaluate(() => document.fonts.ready);
  }

  async signIn() {
    await this.go('');
    const password = this.page.getByLabel('Password');
    await password.waitFor();
    await this.shoot('sign-in');
    await password.fill('not the password');
    await this.page.getByRole('button', { name: 'Sign in' }).click();
    await this.page.locator('[aria-invalid]').waitFor();
    await this.shoot('sign-in-refused');
    await password.fill(this.password);
    await this.page.getByRole('button', { name: 'Sign in' }).click();
    await this.page.getByRole('heading', { level: 1, name: /machine/i }).waitFor();
  }

  async fleet() {
    await this.go('');
    await this.page.getByRole('heading', { level: 1, name: /machine/i }).waitFor();
    await this.quiet();
    await this.shoot('fleet');
    if (this.machines >= 300) {
      await this.page.getByLabel('Search machines').fill('laptop');
      await this.shoot('fleet-search');
      await this.page.getByLabel('Search machines').fill('nothing is called that');
      await this.shoot('fleet-search-none');
      await this.page.getByLabel('Search machines').fill('');
      await this.page.getByRole('button', { name: 'State', exact: true }).click();
      await this.shoot('fleet-by-state');
    }
  }

  async overlays() {
    await this.go('');
    await this.page.getByRole('heading', { level: 1, name: /machine/i }).waitFor();
    await this.page.keyboard.press('Control+k');
    await this.page.getByRole('dialog').waitFor();
    await this.shoot('palette');
    if (this.machines > 0) {
      await this.page.keyboard.type('web');
      await this.shoot('palette-search');
    }
    await this.page.keyboard.press('Escape');
    await this.page.getByRole('dialog').waitFor({ state: 'hidden' });
    await this.page.keyboard.press('?');
    await this.page.getByRole('dialog').waitFor();
    await this.shoot('shortcuts');
    await this.page.keyboard.press('Escape');
  }

  async pages() {
    await this.go('#/activity');
    await (this.machines > 0 ? this.lists() : this.shows('No runs yet'));
    await this.shoot('activity');
    await this.go('#/plans');
    await (this.machines > 0 ? this.lists() : this.shows('Make the first plan'));
    await this.shoot('plans');
    await this.plan();
    await this.alarms();
    await this.go('#/settings');
    await this.shows('Addresses');
    await this.shoot('settings');
    if (this.machines === 0) {
      await this.go('#/store');
      await this.shows('are free there');
      await this.shoot('store-empty');
    }
    await this.go('#/nowhere');
    await this.page.getByRole('heading', { level: 1 }).waitFor();
    await this.shoot('unknown');
  }

  /** Who is told when a backup fails: nobody, then two ways. */
  async alarms() {
    const main = this.page.getByRole('main');
    await this.go('#/alarms');
    await this.shows('Nobody is told yet');
    await this.shoot('alarms-empty');
    await this.go('#/alarms/new');
    await this.shows('How do you want to be told?');
    await this.shoot('alarms-new');
    await main.getByLabel('Kind').selectOption('smtp');
    await this.shoot('alarms-new-mail');
    for (const form of [
      { name: 'Phone', kind: 'ntfy', url: 'https://ntfy.sh/backups-of-ours', all_hosts: true },
      { name: 'Watchdog', kind: 'ping', url: 'https://hc.example.org/ping/1', all_hosts: true },
    ]) {
      const answer = await this.page
        .context()
        .request.post(`${this.manager.ui}/api/alarm-channels`, {
          data: form,
          headers: { origin: this.manager.ui },
        });
      if (!answer.ok()) throw new Error(await answer.text());
    }
    await this.go('#/alarms');
    await this.lists();
    await this.shoot('alarms');
    const [channel] = await this.api('alarm-channels');
    await this.go(`#/alarms/${channel.id}`);
    await this.shows('Send a test message');
    await this.shoot('alarms-channel');
  }

  /** The form of a new plan with all that it folds away, and the page of one that is there. */
  async plan() {
    const main = this.page.getByRole('main');
    await this.go('#/plans/new');
    await this.shows('For which machines');
    await this.shows('Caches and temporary files');
    await this.shoot('plan-new');
    await main
      .getByText(/^Patterns/)
      .first()
      .click();
    await main.getByText(/^More: limits/).click();
    const hook = main.getByLabel('Each may take (seconds)');
    await this.shoot('plan-new-more', () => hook.scrollIntoViewIfNeeded());
    await main.getByLabel('Name of the plan').fill('Everything');
    await main.getByLabel('All machines with one of these tags').fill('server, office,');
    await main.getByRole('button', { name: 'Make the plan' }).click();
    await main.locator('[aria-invalid]').first().waitFor();
    await this.shoot('plan-new-refused');
    const end = main.getByRole('region', { name: 'For which machines' });
    await this.shoot('plan-new-end', () => end.scrollIntoViewIfNeeded());
    await main.getByRole('button', { name: 'Discard changes' }).click();
    const plans = await this.api('plans');
    const most = plans.toSorted((a, b) => b.all_host_ids.length - a.all_host_ids.length)[0];
    if (!most) return;
    await this.go(`#/plans/${most.id}`);
    await this.shows('On its machines');
    await this.shows('Caches and temporary files');
    await this.shoot('plan');
  }

  /** Everything of machines that the fleet has. */
  async machinePages() {
    const machines = await this.api('hosts');
    const named = (name) => machines.find((machine) => machine.name === name);
    const nas = named('nas');
    await this.machine(nas, 'machine');
    for (const [name, page] of [
      ['db-1', 'machine-failed'],
      ['reception', 'machine-partial'],
      ['lab-new', 'machine-new'],
      ['build-copy', 'machine-held'],
      ['old-web', 'machine-revoked'],
      ['spare', 'machine-unplanned'],
      ['archive-of-the-municipal-library-second-floor', 'machine-long-name'],
    ]) {
      const it = named(name);
      if (!it) continue;
      await this.go(`#/machines/${it.id}`);
      await this.page.getByRole('navigation', { name: 'Machine' }).waitFor();
      await this.quiet();
      await this.shoot(page);
      if (page === 'machine-new') {
        await this.go(`#/machines/${it.id}/snapshots`);
        await this.shows('No snapshots yet');
        await this.shoot('machine-snapshots-empty');
      }
      if (page === 'machine-failed' || page === 'machine-unplanned') {
        await this.go(`#/machines/${it.id}/settings`);
        await this.shows('Take it out');
        await this.shoot(`${page}-settings`);
      }
    }
    await this.runs(machines);
    await this.destruction(named('web-1'));
  }

  async machine(it, name) {
    await this.go(`#/machines/${it.id}`);
    await this.shows('Growth');
    // The chart comes by itself, and draws once it knows its size.
    await this.page.locator('main svg text').first().waitFor();
    await this.shoot(name);
    await this.go(`#/machines/${it.id}/runs`);
    await this.lists();
    await this.shoot(`${name}-runs`);
    await this.go(`#/machines/${it.id}/settings`);
    await this.shows('Take it out');
    await this.shoot(`${name}-settings`);
    await this.editors(name);
    await this.go(`#/machines/${it.id}/snapshots`);
    await this.shows('Added');
    await this.shoot(`${name}-snapshots`);
    // Its first plan's newest snapshot is the one whose folders are known.
    const plans = await this.api('plans');
    const plan = plans.find((one) => one.host_ids.includes(it.id) && one.name.endsWith('photos'));
    const repository = it.repository_ids[0];
    const list = await this.api(`repositories/${repository}/snapshots`);
    const newest = list.snapshots.find((one) => one.tags.includes(`plan:${plan.id}`));
    const base = `#/machines/${it.id}/snapshots/${repository}/${newest.id}`;
    await this.go(base);
    await this.shows('srv');
    await this.shoot('browse-root');
    await this.go(`${base}/${encodeURIComponent('/srv/photos/2026/harbour')}`);
    await this.shows('DSC_4401.NEF');
    for (const name of ['DSC_4402.NEF', 'DSC_4404.NEF', 'DSC_4405.NEF']) {
      await this.page.getByRole('checkbox', { name: `Choose ${name}` }).check();
    }
    await this.shoot('browse');
  }

  /** The forms of a machine's settings, each with something typed that is not saved. */
  async editors(name) {
    const { page } = this;
    const main = page.getByRole('main');
    const open = async (button, form, field, text) => {
      await main.getByRole('button', { name: button }).first().click();
      const opened = main.getByRole('form', { name: form });
      await opened.getByLabel(field).fill(text);
      return opened;
    };
    const forms = {
      plan: [/^Change (?!the repository)/, /^Change /, 'Leave out', '*.tmp'],
      'new-plan': ['New plan', 'New plan', 'Folders and files', '/srv/a place  with blanks'],
      repository: [/^Change the repository/, /^Change /, 'Repository password', 'another one'],
    };
    for (const [form, how] of Object.entries(forms)) {
      const opened = await open(...how);
      const discard = opened.getByRole('button', { name: 'Discard changes' });
      await this.shoot(`${name}-settings-${form}`, () => opened.scrollIntoViewIfNeeded());
      await this.shoot(`${name}-settings-${form}-end`, () => discard.scrollIntoViewIfNeeded());
      await discard.click();
    }
  }

  async runs(machines) {
    const all = await this.api('runs?limit=200');
    const going = all.find((run) => run.status === 'running');
    await this.go(`#/runs/${going.id}`);
    await this.page.getByRole('progressbar').waitFor();
    await this.shows('using parent snapshot');
    await this.shoot('run-running');
    const last = async (name, status) => {
      const it = machines.find((machine) => machine.name === name);
      if (!it) return undefined;
      const own = await this.api(`hosts/${it.id}/runs?limit=200`);
      return own.find((run) => run.status === status);
    };
    const ended = {
      succeeded: await last('web-1', 'succeeded'),
      failed: await last('db-1', 'failed'),
      partial: await last('reception', 'partial'),
      waiting: await last('darkroom', 'queued'),
      restored: (await this.api('runs?kind=restore&limit=5'))[0],
      cancelled: all.find((run) => run.status === 'cancelled'),
    };
    for (const [name, run] of Object.entries(ended)) {
      if (!run) continue;
      await this.go(`#/runs/${run.id}`);
      await this.page.getByRole('heading', { level: 1 }).waitFor();
      await this.quiet();
      await this.shoot(`run-${name}`);
    }
  }

  async destruction(it) {
    await this.go(`#/machines/${it.id}/settings`);
    await this.shows('Take it out');
    await this.page.getByRole('button', { name: 'Forget: show what would go' }).first().click();
    await this.page.getByRole('button', { name: 'Forget now' }).and(enabled(this.page)).waitFor();
    await this.page.getByRole('button', { name: 'Forget now' }).scrollIntoViewIfNeeded();
    await this.shoot('forget-preview', () =>
      this.page.getByRole('button', { name: 'Forget now' }).scrollIntoViewIfNeeded(),
    );
    await this.page.getByRole('button', { name: 'Forget now' }).click();
    await this.page.getByRole('dialog').waitFor();
    await this.shoot('confirm-forget');
    await this.page.keyboard.press('Escape');
    await this.page.getByRole('button', { name: 'Remove', exact: true }).click();
    await this.page.getByRole('dialog').getByRole('textbox').fill('web');
    await this.shoot('confirm-remove');
    await this.page.keyboard.press('Escape');
  }

  async toasts() {
    const machines = await this.api('hosts');
    const away = machines.find((machine) => machine.next_action?.action !== 'view');
    await this.go(`#/machines/${away.id}/settings`);
    await this.shows('Take it out');
    await this.page.getByRole('button', { name: 'Read facts anew' }).first().click();
    await this.page.getByRole('button', { name: 'Read facts anew' }).first().click();
    await this.page.getByRole('region', { name: 'Messages' }).getByText('Read facts').waitFor();
    await this.shoot('toasts');
  }

  /** The store that was filled, and what its page says when it is away. */
  async stored() {
    const { page } = this;
    const end = (name) => page.getByRole('region', { name }).scrollIntoViewIfNeeded();
    await this.go('#/store');
    await this.shows('Kept from machines that left');
    await page.locator('main svg text').first().waitFor();
    await this.shoot('store');
    await this.shoot('store-end', () => end('What it means'));
    await page
      .getByRole('button', { name: /^Change limit/ })
      .first()
      .click();
    await page.getByLabel('How much may it fill?').fill('1 GB');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.locator('[aria-invalid]').waitFor();
    await this.shoot('store-limit', () => page.locator('[aria-invalid]').scrollIntoViewIfNeeded());
    renameSync(this.store, `${this.store}-elsewhere`);
    await page.reload();
    await this.shows('The store is away.');
    await this.shoot('store-away');
    renameSync(`${this.store}-elsewhere`, this.store);
    await this.go('#/add');
    await this.shows('are free');
    const submit = page.getByRole('button', { name: 'Make the install line' });
    await this.shoot('store-add', () => submit.scrollIntoViewIfNeeded());
  }

  /** The adding of a machine, step by step. It changes the fleet, so it is the last. */
  async add() {
    const { page } = this;
    await this.go('#/add');
    // Without the messages of the page before.
    await page.reload();
    await page.getByRole('heading', { level: 1, name: 'Add a machine' }).waitFor();
    await this.quiet();
    await this.shoot('add');
    await page.getByRole('button', { name: 'Make the install line' }).click();
    await page.locator('[aria-invalid]').first().waitFor();
    await this.shoot('add-refused');
    await page.getByLabel('What is the machine called?').fill('reading-room');
    const known = page.getByRole('radio', { name: 'As a plan that is here already' });
    if (await known.count()) {
      await known.check();
      await page.getByLabel('Plan', { exact: true }).selectOption({ index: 1 });
      await this.shoot('add-known-plan');
    }
    const more = page.getByRole('radio', { name: 'By a new plan' });
    if (await more.count()) await more.check();
    await page.getByLabel('Folders and files').fill('/etc\n/home\n/srv');
    const fresh = page.getByRole('radio', { name: 'A new repository' });
    if (await fresh.count()) await fresh.check();
    await page.getByLabel('Location').fill('rest:http://127.0.0.1:9/reading-room/');
    await page.getByLabel('User').fill('reading-room');
    await page.getByRole('button', { name: 'Test the connection' }).click();
    await page.getByText('Testing').waitFor({ state: 'hidden' });
    await this.shoot('add-tested', () =>
      page.getByRole('button', { name: 'Test the connection' }).scrollIntoViewIfNeeded(),
    );
    await page.getByRole('button', { name: 'Make the install line' }).click();
    await this.shows('On the machine, as root');
    await this.shoot('add-install');
    await page.getByRole('button', { name: 'Start over' }).click();
    await this.shoot('add-start-over');
    await page.getByRole('button', { name: 'Back' }).click();
    const block = await page
      .getByText(/restic-manager-agent enroll/)
      .first()
      .innerText();
    const token = /^([A-Za-z0-9_-]{43})$/m.exec(block)?.[1];
    if (!token) throw new Error('there is no token in the install block');
    const child = spawn(join(options.programs, 'made'), ['join', ...this.link], {
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    started.push(child);
    child.stdin.end(token);
    await page.getByText(/Connected as/).waitFor();
    await page.getByRole('button', { name: /Initialise/ }).waitFor();
    await this.shoot('add-connected');
    await page.getByRole('button', { name: /Initialise/ }).click();
    await page.getByText('Repository initialised').waitFor();
    await page.getByRole('button', { name: /Run now/ }).waitFor();
    await this.shoot('add-initialised');
    await page.getByRole('button', { name: /Run now/ }).click();
    await page.getByText(/is protected/).waitFor();
    await this.shoot('add-done');
  }
}

const enabled = (page) => page.locator(':enabled');

async function shootAll() {
  if (!options.only && !options.fleet) rmSync(options.out, { recursive: true, force: true });
  mkdirSync(options.out, { recursive: true });
  const browser = await chromium.launch({
    executablePath: options.browser,
    // Chromium refuses its sandbox to root.
    chromiumSandbox: process.getuid?.() !== 0,
  });
  let count = 0;
  try {
    for (const machines of FLEETS.filter((it) => wants(options.fleet, it))) {
      const scene = new Scene(machines, join(options.out, `.fleet-${machines}`));
      await scene.open(browser);
      await scene.signIn();
      await scene.fleet();
      await scene.overlays();
      await scene.pages();
      if (machines > 0) {
        await scene.machinePages();
        await scene.toasts();
      }
      await scene.add();
      count += scene.count;
      console.log(`${scene.count} pictures with ${machines} machines`);
      await scene.close();
    }
    if (wants(options.fleet, 3) && begins('store')) {
      const folder = join(options.out, '.store');
      const scene = new Scene(3, folder, join(folder, 'backups'));
      await scene.open(browser);
      await scene.signIn();
      await scene.stored();
      count += scene.count;
      console.log(`${scene.count} pictures of the store`);
      await scene.close();
    }
  } finally {
    await browser.close();
    await stopAll();
  }
  return count;
}

try {
  const screenshots = await shootAll();
  console.log(JSON.stringify({ ok: true, screenshots, folder: options.out }));
} catch (error) {
  console.log(JSON.stringify({ ok: false, error: String(error) }));
  process.exitCode = 1;
}
