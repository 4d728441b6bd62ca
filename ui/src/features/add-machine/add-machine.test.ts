// Adding a machine: nothing typed is lost, nothing is stored in part, secrets are shown once.
import { screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import {
  ago,
  backupRun,
  goodBackup,
  machine,
  plan,
  refusal,
  repository,
  store,
} from '../../test/fakes';
import AddMachineView from '../../views/AddMachineView.svelte';
import { steps } from './steps';

const enrolment = {
  id: 'e1',
  token: 't',
  expires_at: new Date(Date.now() + 3_600_000).toISOString(),
  install: { unix: 'restic-manager-agent enroll', brings_agent: false },
};
const whole = {
  ...enrolment,
  plan: plan({ name: 'atlas files' }),
  repository: {
    repository: repository(),
    minted_password: 'minted-repository-password',
    minted_credential: 'minted-credential',
    htpasswd_line: 'htpasswd -B .htpasswd atlas',
  },
};
/** A server that makes all of it, and tells of the enrolment in this state. */
const taking = (more: object = {}) =>
  emptyServer()
    .on('POST', '/api/enrolments', () => ({ status: 201, body: whole }))
    .on('DELETE', '/api/enrolments/e1', () => ({ status: 204 }))
    .on('GET', '/api/enrolments', [
      { ...enrolment, name: 'atlas', state: 'waiting', created_at: ago(0), ...more },
    ]);

/** For who has chosen nothing, backups go to this computer. */
const elsewhere = async () =>
  userEvent.click(await screen.findByRole('radio', { name: /A new repository/ }));

async function fill() {
  await elsewhere();
  await userEvent.type(screen.getByLabelText(/What is the machine called/), 'atlas');
  await userEvent.type(screen.getByLabelText(/Folders and files/), '/etc\n/home');
  await userEvent.type(screen.getByLabelText(/Location/), 'rest:http://box:8000/atlas/');
  await userEvent.type(screen.getByLabelText(/^User/), 'atlas');
}
const submit = () => userEvent.click(screen.getByRole('button', { name: 'Make the install line' }));

describe('adding a machine', () => {
  it('asks for nothing but to paste the line where that brings the agent along', async () => {
    const install = { unix: "sh <<'RESTIC_MANAGER'", brings_agent: true };
    const transport = taking().on('POST', '/api/enrolments', () => ({
      status: 201,
      body: { ...whole, install },
    }));
    show(AddMachineView, transport);
    await fill();
    await submit();
    expect(await screen.findByLabelText('install line')).toHaveTextContent('RESTIC_MANAGER');
    expect(screen.queryByText(/build it from the source/)).toBeNull();
    expect(screen.queryByText(/Start the agent with/)).toBeNull();
  });

  it('asks for repository, plan and enrolment at once, and shows what was minted', async () => {
    const transport = taking();
    show(AddMachineView, transport);
    await fill();
    await submit();
    const line = await screen.findByLabelText('install line');
    expect(line).toHaveTextContent('restic-manager-agent enroll');
    expect(screen.getByText('minted-repository-password')).toBeVisible();
    const added = screen.getByLabelText('htpasswd line');
    expect(added).toHaveTextContent('htpasswd -B .htpasswd atlas');
    expect(transport.sent('POST', '/api/enrolments')).toMatchObject([
      {
        name: 'atlas',
        plan: {
          name: 'atlas files',
          paths: ['/etc', '/home'],
          retention: { keep_daily: 7 },
          repository: {
            name: 'atlas',
            url: 'rest:http://box:8000/atlas/',
            username: 'atlas',
            credential: null,
          },
        },
      },
    ]);
    for (const path of ['/api/repositories', '/api/plans']) {
      expect(transport.sent('POST', path)).toEqual([]);
    }
  });

  it('puts a refusal to its field until that is changed, and keeps all that was typed', async () => {
    const transport = emptyServer().on('POST', '/api/enrolments', () =>
      refusal('repository_url_invalid', 'The location contains a user.', {
        field: 'plan.repository.url',
      }),
    );
    show(AddMachineView, transport);
    await fill();
    await submit();
    const url = screen.getByLabelText(/Location/);
    expect(url).toHaveAccessibleDescription(/The location contains a user/);
    expect(url).toBeInvalid();
    expect(url).toHaveValue('rest:http://box:8000/atlas/');
    expect(screen.getByLabelText(/Folders and files/)).toHaveValue('/etc\n/home');
    const name = screen.getByLabelText(/What is the machine called/);
    expect(name).toHaveValue('atlas');
    await userEvent.type(name, '-2');
    expect(url).toBeInvalid();
    await userEvent.type(url, 'x');
    expect(url).toBeValid();
  });

  it('offers this computer first, with a folder and what is free, and says what that means', async () => {
    const transport = taking().on('PUT', '/api/store', store({ state: 'here', folder: '/mnt/b' }));
    show(AddMachineView, transport);
    expect(await screen.findByRole('radio', { name: /This computer/ })).toBeChecked();
    const folder = screen.getByLabelText('Folder');
    expect(folder).toHaveValue('/home/admin/store');
    await waitFor(() => expect(folder).toHaveAccessibleDescription(/1\.2.TB are free there/));
    expect(screen.getByText(/The agents keep trying to reach it/)).toBeVisible();
    await userEvent.type(screen.getByLabelText(/What is the machine called/), 'atlas');
    await userEvent.type(screen.getByLabelText(/Folders and files/), '/etc');
    await userEvent.clear(folder);
    await submit();
    expect(folder).toBeInvalid();
    await userEvent.type(folder, '/mnt/b');
    await submit();
    expect(transport.sent('PUT', '/api/store')).toEqual([{ folder: '/mnt/b' }]);
    const [sent] = transport.sent('POST', '/api/enrolments');
    expect(sent).toMatchObject({ name: 'atlas', plan: { paths: ['/etc'] } });
    expect(sent).not.toHaveProperty('plan.repository');
  });

  it('leaves who has entered a repository with that', async () => {
    show(AddMachineView, taking().on('GET', '/api/repositories', [repository()]));
    expect(await screen.findByRole('radio', { name: /A new repository/ })).toBeChecked();
  });

  it('says all that is missing at once, and asks for nothing', async () => {
    const transport = taking();
    show(AddMachineView, transport);
    await elsewhere();
    await submit();
    for (const label of [/What is the machine called/, /Folders and files/, /Location/]) {
      expect(screen.getByLabelText(label)).toBeInvalid();
    }
    expect(transport.sent('POST', '/api/enrolments')).toEqual([]);
  });

  it('asks before what is shown once goes, and withdraws the line that nobody used', async () => {
    const transport = taking();
    show(AddMachineView, transport);
    await fill();
    await submit();
    await userEvent.click(await screen.findByRole('button', { name: 'Start over' }));
    const dialog = await screen.findByRole('dialog');
    expect(dialog).toHaveTextContent(/passwords on this page are shown this once/);
    expect(dialog).toHaveTextContent(/“atlas files” and the repository “box” stay/);
    expect(transport.sent('DELETE', '/api/enrolments/e1')).toHaveLength(0);
    await userEvent.click(within(dialog).getByRole('button', { name: 'Start over' }));
    expect(transport.sent('DELETE', '/api/enrolments/e1')).toHaveLength(1);
    expect(screen.queryByText('minted-repository-password')).toBeNull();
    expect(screen.getByLabelText(/What is the machine called/)).toHaveValue('');
  });

  it('offers the plan of a machine that came in to the next one, and no abandoned plan', async () => {
    const known = [plan({ paths: ['/etc', '/srv/two  blanks'] })];
    const presets = async (more: object, button: string) => {
      const transport = taking(more)
        .on('GET', '/api/plans', known)
        .on('GET', '/api/repositories', [repository()]);
      const shown = show(AddMachineView, transport);
      await fill();
      await submit();
      await userEvent.click(await screen.findByRole('button', { name: button }));
      const dialog = await screen.findByRole('dialog');
      await userEvent.click(within(dialog).getByRole('button', { name: button }));
      const isExisting = screen.getByRole<HTMLInputElement>('radio', { name: /As a plan that/ });
      const { checked } = isExisting;
      const words = shown.container.textContent;
      shown.unmount();
      return { checked, words };
    };
    expect((await presets({}, 'Start over')).checked).toBe(false);
    const used = { state: 'used', host_id: 'm1' };
    const next = await presets(used, 'Add another machine');
    expect(next.checked).toBe(true);
    expect(next.words).toContain('each can read what the others wrote');
    expect(next.words).toContain('/srv/two  blanks');
  });

  it.each([
    ['expired', /This line has expired/],
    ['withdrawn', /This line was withdrawn/],
  ])('offers a new line for one that is %s', async (state, words) => {
    const transport = taking({ state });
    show(AddMachineView, transport);
    await fill();
    await submit();
    expect(await screen.findByText(words)).toBeVisible();
    expect(screen.getByText('No machine came in')).toBeVisible();
    expect(screen.queryByLabelText('install line')).toBeNull();
    await userEvent.click(screen.getByRole('button', { name: 'Make a new one' }));
    expect(transport.sent('POST', '/api/enrolments').at(-1)).toEqual({
      name: 'atlas',
      plan_id: 'p1',
    });
    expect(screen.getByText('minted-repository-password')).toBeVisible();
  });

  it.each([
    ['how to start an agent that is away', { is_online: false }, /restic-manager-agent run$/],
    [
      'that restic is missing',
      { restic_version: '' },
      /^No restic that works was found on atlas\.$/,
    ],
    ['that it was revoked', { is_online: false, state: 'revoked' }, /^atlas was revoked\.$/],
    [
      'that a decision is due',
      { hold: { code: 'clone_suspected', message: 'Two of them.' } as const },
      /^atlas waits for your decision\.$/,
    ],
    [
      'that the first backup has gaps',
      { last_good: goodBackup(0, true) },
      /^The first backup of atlas has gaps\.$/,
    ],
  ])('says %s', async (_, more, words) => {
    const transport = taking({ state: 'used', host_id: 'm1' })
      .on('GET', '/api/hosts', [machine({ last_runs: [], last_good: null, ...more })])
      .on('GET', '/api/plans', [plan()])
      .on('GET', '/api/repositories', [repository()]);
    show(AddMachineView, transport);
    await fill();
    await submit();
    expect(await screen.findByText(words)).toBeVisible();
    expect(screen.queryByText(/is protected/)).toBeNull();
  });

  it('shows a refusal without a field above the form', async () => {
    const transport = emptyServer().on('POST', '/api/enrolments', () =>
      refusal('internal', 'Something broke.', { guidance: 'Its log has the cause.' }),
    );
    show(AddMachineView, transport);
    await fill();
    await submit();
    expect(await screen.findByRole('alert')).toHaveTextContent('Something broke.');
  });

  it('tests the connection before anything is saved', async () => {
    const transport = emptyServer().on('POST', '/api/repositories/test', {
      state: 'empty',
      message: 'The server answers, and the place is empty.',
    });
    show(AddMachineView, transport);
    await fill();
    await userEvent.click(screen.getByRole('button', { name: 'Test the connection' }));
    expect(await screen.findByText(/The server answers/)).toBeVisible();
    expect(transport.sent('POST', '/api/repositories/test')).toEqual([
      { url: 'rest:http://box:8000/atlas/', username: 'atlas', credential: null, ca_pem: null },
    ]);
    expect(transport.sent('POST', '/api/enrolments')).toEqual([]);
  });
});

describe('the steps of a new machine', () => {
  const waiting = {
    id: 'e1',
    name: 'atlas',
    state: 'waiting' as const,
    created_at: ago(0),
    expires_at: ago(-1),
  };
  const used = { ...waiting, state: 'used' as const, host_id: 'm1', used_at: ago(0) };
  const done = (...args: Parameters<typeof steps>) => steps(...args).map((step) => step.isDone);

  it('turn green by their own facts', () => {
    const fresh = { last_runs: [], next_action: null };
    const empty = repository({ initialised_at: null });
    expect(done(waiting, undefined, empty)).toEqual([false, false, false, false]);
    expect(done(used, machine({ ...fresh, is_online: false, in_sync: false }), empty)).toEqual([
      false,
      false,
      false,
      false,
    ]);
    expect(done(used, machine(fresh), empty)).toEqual([true, true, false, false]);
    expect(done(used, machine(fresh), repository())).toEqual([true, true, true, false]);
    expect(done(used, machine(), repository())).toEqual([true, true, true, true]);
  });

  it('offer the machine’s own next action, each at its step', () => {
    const next = { action: 'initialise', kind: 'init', repository_id: 'r1' } as const;
    const it = machine({ last_runs: [], next_action: next });
    const all = steps(used, it, repository({ initialised_at: null }));
    expect(all.filter((step) => step.isNext).map((step) => step.id)).toEqual(['initialised']);
  });

  it('go on to the backup where a repository was there already', () => {
    const exists = { kind: 'init', status: 'failed', code: 'repository_exists' } as const;
    const it = machine({ last_runs: [backupRun(exists)], last_good: null });
    const all = steps(used, it, repository({ initialised_at: null }));
    expect(all.map((step) => step.isDone)).toEqual([true, true, true, false]);
    expect(all.filter((step) => step.isNext).map((step) => step.id)).toEqual(['backup']);
  });

  it('stand still where nobody can go on', () => {
    const glyphs = (...args: Parameters<typeof steps>) => steps(...args).map((step) => step.glyph);
    const expired = { ...waiting, state: 'expired' as const };
    expect(glyphs(expired, undefined, undefined)).not.toContain('running');
    const away = { last_runs: [], next_action: null, is_online: false, in_sync: false };
    expect(glyphs(used, machine(away), undefined)[0]).toBe('running');
    expect(glyphs(used, machine({ ...away, state: 'revoked' }), undefined)).not.toContain(
      'running',
    );
  });

  it('show a first backup with gaps as what it is', () => {
    const it = machine({ last_good: goodBackup(0, true) });
    const last = steps(used, it, repository()).at(-1);
    expect([last?.glyph, last?.words]).toEqual(['partial', 'First backup done, with gaps']);
  });

  it('show a backup that failed as failed', () => {
    const it = machine({
      last_runs: [backupRun({ id: 'f', status: 'failed' })],
      last_good: null,
      next_action: { action: 'retry', kind: 'backup', plan_id: 'p1', run_id: 'f' },
    });
    const last = steps(used, it, repository()).at(-1);
    expect([last?.glyph, last?.isNext]).toEqual(['failed', true]);
  });
});
