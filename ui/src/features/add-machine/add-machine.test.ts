// Adding a machine: nothing typed is lost, nothing is created twice, secrets are shown once.
import { screen } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { ago, backupRun, machine, plan, refusal, repository } from '../../test/fakes';
import AddMachineView from '../../views/AddMachineView.svelte';
import { steps } from './steps';

const created = {
  repository: repository(),
  minted_password: 'minted-repository-password',
  minted_credential: 'minted-credential',
  htpasswd_line: 'htpasswd -B .htpasswd atlas',
};
const enrolment = {
  id: 'e1',
  token: 't',
  expires_at: new Date(Date.now() + 3_600_000).toISOString(),
  install: { unix: 'restic-manager-agent enroll' },
};

async function fill() {
  await userEvent.type(screen.getByLabelText(/What is the machine called/), 'atlas');
  await userEvent.type(screen.getByLabelText(/Folders and files/), '/etc\n/home');
  await userEvent.type(screen.getByLabelText(/Location/), 'rest:http://box:8000/atlas/');
  await userEvent.type(screen.getByLabelText(/^User/), 'atlas');
}
const submit = () => userEvent.click(screen.getByRole('button', { name: 'Make the install line' }));

describe('adding a machine', () => {
  it('creates repository, plan and enrolment, and shows what was minted', async () => {
    const transport = emptyServer()
      .on('POST', '/api/repositories', () => ({ status: 201, body: created }))
      .on('POST', '/api/plans', () => ({ status: 201, body: plan() }))
      .on('POST', '/api/enrolments', () => ({ status: 201, body: enrolment }));
    show(AddMachineView, transport);
    await fill();
    await submit();
    expect(await screen.findByText('restic-manager-agent enroll')).toBeVisible();
    expect(screen.getByText('minted-repository-password')).toBeVisible();
    expect(screen.getByText('htpasswd -B .htpasswd atlas')).toBeVisible();
    expect(transport.sent('POST', '/api/repositories')).toMatchObject([
      { name: 'atlas', url: 'rest:http://box:8000/atlas/', username: 'atlas', credential: null },
    ]);
    expect(transport.sent('POST', '/api/plans')).toMatchObject([
      { name: 'atlas files', paths: ['/etc', '/home'], retention: { keep_daily: 7 } },
    ]);
    expect(transport.sent('POST', '/api/enrolments')).toEqual([{ name: 'atlas', plan_id: 'p1' }]);
  });

  it('puts a refusal to its field and keeps all that was typed', async () => {
    const transport = emptyServer().on('POST', '/api/repositories', () =>
      refusal('repository_url_invalid', 'The location contains a user.', { field: 'url' }),
    );
    show(AddMachineView, transport);
    await fill();
    await submit();
    const url = screen.getByLabelText(/Location/);
    expect(url).toHaveAccessibleDescription(/The location contains a user/);
    expect(url).toBeInvalid();
    expect(url).toHaveValue('rest:http://box:8000/atlas/');
    expect(screen.getByLabelText(/Folders and files/)).toHaveValue('/etc\n/home');
    expect(screen.getByLabelText(/What is the machine called/)).toHaveValue('atlas');
    expect(transport.sent('POST', '/api/plans')).toEqual([]);
  });

  it('creates nothing twice when a later step is refused', async () => {
    let isFree = false;
    const transport = emptyServer()
      .on('POST', '/api/repositories', () => ({ status: 201, body: created }))
      .on('POST', '/api/plans', () => ({ status: 201, body: plan() }))
      .on('POST', '/api/enrolments', () =>
        isFree
          ? { status: 201, body: enrolment }
          : refusal('conflict', 'Another machine has this name already.', { field: 'name' }),
      );
    show(AddMachineView, transport);
    await fill();
    await submit();
    const name = screen.getByLabelText(/What is the machine called/);
    expect(name).toHaveAccessibleDescription(/Another machine has this name/);
    // The secrets are shown although the walk is not at its end.
    expect(screen.getByText('minted-repository-password')).toBeVisible();
    isFree = true;
    await userEvent.type(name, '-2');
    await submit();
    expect(await screen.findByText('restic-manager-agent enroll')).toBeVisible();
    expect(transport.sent('POST', '/api/repositories')).toHaveLength(1);
    expect(transport.sent('POST', '/api/plans')).toHaveLength(1);
  });

  it('withdraws an install line that nobody used when one starts over', async () => {
    const transport = emptyServer()
      .on('POST', '/api/repositories', () => ({ status: 201, body: created }))
      .on('POST', '/api/plans', () => ({ status: 201, body: plan() }))
      .on('POST', '/api/enrolments', () => ({ status: 201, body: enrolment }))
      .on('DELETE', '/api/enrolments/e1', () => ({ status: 204 }));
    show(AddMachineView, transport);
    await fill();
    await submit();
    await userEvent.click(await screen.findByRole('button', { name: 'Start over' }));
    expect(transport.sent('DELETE', '/api/enrolments/e1')).toHaveLength(1);
    expect(screen.queryByText('minted-repository-password')).toBeNull();
    expect(screen.getByLabelText(/What is the machine called/)).toHaveValue('');
  });

  it('shows a refusal without a field above the form', async () => {
    const transport = emptyServer().on('POST', '/api/repositories', () =>
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
    expect(transport.sent('POST', '/api/repositories')).toEqual([]);
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
