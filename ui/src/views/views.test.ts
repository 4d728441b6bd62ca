// Whole pages over a played server: signing in, following a run, and addresses.
import { screen, waitFor } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it } from 'vitest';
import { parseRoute } from '$lib/state/route.svelte';
import SignIn from '$features/shell/SignIn.svelte';
import { emptyServer, show } from '../test/app';
import { ago, machine, repository, run } from '../test/fakes';
import MachineView from './MachineView.svelte';
import RunPageView from './RunPageView.svelte';

beforeEach(() => (window.location.hash = ''));

describe('signing in', () => {
  it('shows a wrong password at its field, and keeps it', async () => {
    const transport = emptyServer().on('POST', '/api/session', () => ({
      status: 403,
      body: { code: 'sign_in_failed', message: 'The password is wrong.' },
    }));
    show(SignIn, transport);
    await userEvent.type(screen.getByLabelText('Password'), 'guess{Enter}');
    const field = screen.getByLabelText('Password');
    await waitFor(() => expect(field).toHaveAccessibleDescription('The password is wrong.'));
    expect(field).toHaveValue('guess');
  });

  it('says when the next attempt is looked at', async () => {
    const transport = emptyServer();
    transport.on('POST', '/api/session', () => ({
      status: 429,
      body: { code: 'too_many_attempts', message: 'Too many attempts to sign in.' },
    }));
    const answer = transport.request.bind(transport);
    transport.request = async (...args) => {
      const it = await answer(...args);
      return { ...it, headers: { ...it.headers, 'retry-after': '40' } };
    };
    show(SignIn, transport);
    await userEvent.type(screen.getByLabelText('Password'), 'guess{Enter}');
    expect(await screen.findByRole('alert')).toHaveTextContent(/looked at in 4\d.s/);
    expect(screen.getByRole('button', { name: 'Sign in' })).toBeDisabled();
  });

  it('ends where the server says that nobody is signed in', async () => {
    const transport = emptyServer().on('GET', '/api/hosts', () => ({
      status: 401,
      body: { code: 'unauthenticated', message: 'Sign in first.' },
    }));
    const { app } = show(SignIn, transport);
    await app.session.load();
    expect(app.session.status).toBe('in');
    await app.fleet.machines.reload();
    await waitFor(() => expect(app.session.status).toBe('out'));
    // The page is kept beneath, with what was typed.
    expect(app.session.wasIn).toBe(true);
  });
});

describe('a run’s page', () => {
  const open = async (...events: [string, unknown][]) => {
    const transport = emptyServer();
    const result = show(RunPageView, transport, { id: 'x1' });
    await result.app.session.load();
    const path = '/api/runs/x1/stream';
    await waitFor(() =>
      expect(transport.streams.some((it) => it.path.startsWith(path))).toBe(true),
    );
    const stream = transport.streams.find((it) => it.path.startsWith(path));
    stream?.open();
    for (const [event, data] of events) stream?.send(event, data);
    return result;
  };

  it('does not call "no answer" failed', async () => {
    const words = 'sent, no answer yet';
    await open(['state', run({ status: 'queued', dispatch: { stage: 'sent', words } })]);
    expect(await screen.findByText('Sent, no answer yet.')).toBeVisible();
    expect(screen.queryByText(/failed/i)).toBeNull();
    expect(screen.getByRole('button', { name: 'Cancel' })).toBeEnabled();
  });

  it('asks before it cancels, with the harmless answer where Cancel was', async () => {
    await open(['state', run({ status: 'running' })]);
    await userEvent.click(await screen.findByRole('button', { name: 'Cancel' }));
    const keep = screen.getByRole('button', { name: 'Keep it' });
    expect(keep).toHaveFocus();
    expect(screen.getByRole('button', { name: 'Yes, cancel it' })).toBeEnabled();
    await userEvent.click(keep);
    const cancel = () => screen.getByRole('button', { name: 'Cancel' });
    expect(cancel()).toBeEnabled();
    expect(cancel()).toHaveFocus();
    await userEvent.click(cancel());
    await userEvent.keyboard('{Escape}');
    expect(cancel()).toHaveFocus();
  });

  it('says what failed and what to do', async () => {
    const failed = run({
      status: 'failed',
      is_terminal: true,
      started_at: '2026-11-24T11:00:00Z',
      finished_at: '2026-11-24T11:01:00Z',
      error: 'The repository is locked.',
      guidance: 'Look at the locks.',
      code: 'repository_locked',
    });
    await open(['state', failed], ['end', { status: 'failed', last_line: 0 }]);
    expect(await screen.findByText('The repository is locked.')).toBeVisible();
    expect(screen.getByText('Look at the locks.')).toBeVisible();
    expect(screen.getByRole('heading', { level: 1 })).toHaveTextContent('Backup on atlas failed');
    expect(screen.queryByRole('button', { name: 'Cancel' })).toBeNull();
  });

  it('shows progress with bytes, files, speed and time left', async () => {
    const progress = {
      percent_done: 0.58,
      files_done: 318_204,
      total_files: 604_119,
      bytes_done: 241e9,
      total_bytes: 412e9,
      eta_seconds: 720,
      throughput_bps: 248e6,
      current_files: ['/srv/a.nef'],
    };
    await open(['state', run()], ['progress', progress]);
    expect(await screen.findByText(/241.GB of 412.GB · 318,204 of 604,119 files/)).toBeVisible();
    expect(screen.getByText(/248.MB\/s · 12.min left/)).toBeVisible();
    expect(screen.getByRole('progressbar')).toHaveAttribute('aria-valuenow', '58');
  });
});

describe('the page of a run in the store', () => {
  const open = async (more: object) => {
    const own = repository({ id: 's1', url: 'store:s1', store_host_id: 'm1' });
    const transport = emptyServer().on('GET', '/api/repositories', [own, repository()]);
    const { app } = show(RunPageView, transport, { id: 'x1' });
    await app.session.load();
    const ours = () => transport.streams.find((it) => it.path.startsWith('/api/runs/x1/stream'));
    await waitFor(() => expect(ours()).toBeDefined());
    ours()?.open();
    const ended = { status: 'succeeded', is_terminal: true, started_at: ago(1) } as const;
    ours()?.send('state', run({ kind: 'prune', ...ended, ...more }));
    await screen.findByRole('heading', { level: 1 });
    await waitFor(() => expect(app.fleet.repositories.data).toBeDefined());
  };

  it('names the place, and not the location that only agents understand', async () => {
    await open({ repository_id: 's1' });
    const place = await screen.findByRole('link', { name: 'the store on this computer' });
    expect(place).toHaveAttribute('href', '#/store');
    expect(screen.queryByText(/store:s1/)).toBeNull();
  });

  it('says what a prune did with what it deleted', async () => {
    await open({ repository_id: 's1' });
    expect(await screen.findByText(/lies in the trash of the store for seven days/)).toBeVisible();
  });

  it('says nothing of a trash where there is none', async () => {
    await open({ repository_id: 'r1' });
    expect(await screen.findByText('rest:http://localhost:8000/box/')).toBeVisible();
    expect(screen.queryByText(/trash/)).toBeNull();
  });
});

describe('a machine’s page', () => {
  const open = async (more: object) => {
    const transport = emptyServer().on('GET', '/api/hosts', [machine(more)]);
    show(MachineView, transport, { id: 'm1', tab: 'overview', rest: [] });
    return screen.findByRole('heading', { level: 1 });
  };

  it('says how the agent is started of a machine that was let in and never connected', async () => {
    await open({ is_online: false, last_seen_at: null, last_runs: [] });
    const command = await screen.findByLabelText('start command');
    expect(command).toHaveTextContent('restic-manager-agent run');
    expect(screen.getByText(/The command by which it joined ends there by itself/)).toBeVisible();
  });

  it('does not when it has connected before', async () => {
    await open({ is_online: false });
    expect(screen.queryByLabelText('start command')).toBeNull();
  });

  it('leads to the check that found damage', async () => {
    const check = { id: 'c1', kind: 'check', status: 'failed', code: 'repository_damaged' };
    const heading = await open({ last_runs: [{ ...check, created_at: ago(1) }] });
    expect(heading).toHaveTextContent('A check found damage.');
    const link = await screen.findByRole('link', { name: 'See what it found' });
    expect(link).toHaveAttribute('href', '#/runs/c1');
  });

  it('says which restic is missing in one way', async () => {
    await open({ restic_version: '' });
    expect(
      screen.getByText(/Install restic 0\.17 or newer \(0\.16\.1 is the oldest/),
    ).toBeVisible();
  });
});

describe('addresses', () => {
  it.each([
    ['', { view: 'fleet' }],
    ['#/', { view: 'fleet' }],
    ['#/add', { view: 'add' }],
    ['#/runs/x1', { view: 'run', id: 'x1' }],
    ['#/machines/m1', { view: 'machine', id: 'm1', tab: 'overview', rest: [] }],
    [
      '#/machines/m1/snapshots/r/s/%2Fetc%2Fa%20b',
      { view: 'machine', id: 'm1', tab: 'snapshots', rest: ['r', 's', '/etc/a b'] },
    ],
    ['#/machines/m1/nonsense', { view: 'unknown' }],
    ['#/nowhere', { view: 'unknown' }],
  ])('%s leads to its place', (hash, route) => expect(parseRoute(hash)).toEqual(route));
});
