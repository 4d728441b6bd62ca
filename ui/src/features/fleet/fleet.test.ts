// The fleet's rows: order, search, and the one action of each.
import { screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { announcement, away, machine, refusal, repository, run, store } from '../../test/fakes';
import FleetView from '../../views/FleetView.svelte';

beforeEach(() => (window.location.hash = ''));

const machines = [
  machine({ id: 'a', name: 'alpha' }),
  machine({
    id: 'b',
    name: 'bravo',
    last_runs: [],
    next_action: { action: 'initialise', kind: 'init', repository_id: 'r1' },
  }),
  machine({
    id: 'c',
    name: 'charlie',
    last_runs: [{ id: 'f', kind: 'backup', status: 'failed', created_at: '2026-11-24T11:00:00Z' }],
    next_action: { action: 'retry', kind: 'backup', plan_id: 'p7', run_id: 'f' },
  }),
  machine({ id: 'd', name: 'delta', next_action: { action: 'view', run_id: 'x9' } }),
  machine({ id: 'e', name: 'echo', state: 'revoked', next_action: null }),
];

const row = async (name: string) => {
  const link = await screen.findByRole('link', { name });
  return within(link.closest('tr') as HTMLElement);
};

describe('a row', () => {
  it('offers what the server says is next, and nothing where only a person can go on', async () => {
    show(FleetView, emptyServer().on('GET', '/api/hosts', machines));
    expect((await row('alpha')).getByRole('button')).toHaveTextContent('Run now');
    expect((await row('bravo')).getByRole('button')).toHaveTextContent('Initialise');
    expect((await row('charlie')).getByRole('button')).toHaveTextContent('Retry');
    const view = (await row('delta')).getByRole('link', { name: /View/ });
    expect(view).toHaveAttribute('href', '#/runs/x9');
    expect((await row('echo')).queryByRole('button')).toBeNull();
  });

  it('is a link to the machine', async () => {
    show(FleetView, emptyServer().on('GET', '/api/hosts', machines));
    const link = await screen.findByRole('link', { name: 'alpha' });
    expect(link).toHaveAttribute('href', '#/machines/a');
  });

  it.each([
    ['alpha', 'a', { kind: 'backup', plan_id: 'p1' }],
    ['bravo', 'b', { kind: 'init', repository_id: 'r1' }],
    ['charlie', 'c', { kind: 'backup', plan_id: 'p7' }],
  ])('asks for the run of %s', async (name, id, body) => {
    const transport = emptyServer()
      .on('GET', '/api/hosts', machines)
      .on('POST', `/api/hosts/${id}/runs`, () => ({ status: 201, body: run() }));
    show(FleetView, transport);
    await userEvent.click((await row(name)).getByRole('button'));
    expect(transport.sent('POST', `/api/hosts/${id}/runs`)).toEqual([body]);
  });

  it('tells a refusal with its guidance and the run that stands in the way', async () => {
    const transport = emptyServer()
      .on('GET', '/api/hosts', machines)
      .on('POST', '/api/hosts/a/runs', () =>
        refusal('conflict', 'It is going already.', { guidance: 'Open it.', run_id: 'x5' }),
      );
    const { app } = show(FleetView, transport);
    await userEvent.click((await row('alpha')).getByRole('button'));
    expect(app.toasts.list).toMatchObject([
      { title: 'It is going already.', body: 'Open it.', link: { href: '#/runs/x5' } },
    ]);
  });
});

describe('a machine that the manager cannot read', () => {
  const server = (hosts: object[]) =>
    emptyServer()
      .on('GET', '/api/hosts', hosts)
      .on('GET', '/api/system', {
        version: '0.1.0',
        addresses: [],
        counts: { online: 0, hosts: hosts.length + 1, unreadable_hosts: 1 },
      });

  it.each([
    ['beside others', [machine()], '1 of 2 machines are protected.'],
    ['alone', [], 'Your machine is not protected.'],
  ])('is told of %s, and is no protected one', async (_, hosts, words) => {
    const { app } = show(FleetView, server(hosts));
    const stop = app.fleet.start();
    expect(await screen.findByText('1 machine cannot be shown.')).toBeVisible();
    expect(screen.getByRole('heading', { level: 1 })).toHaveTextContent(words);
    stop();
  });
});

describe('a card', () => {
  const away = store({ state: 'away', folder: '/mnt/backups' });
  const own = repository({ store_host_id: 'm1', url: 'store:r1' });

  it('says that the store is away, where a machine backs up into it', async () => {
    const transport = emptyServer()
      .on('GET', '/api/hosts', [machine()])
      .on('GET', '/api/repositories', [own])
      .on('GET', '/api/store', away);
    show(FleetView, transport);
    const cards = await screen.findByRole('list', { name: 'What needs you' });
    expect(cards).toHaveTextContent('The store is away');
    expect(cards).toHaveTextContent('Until then atlas cannot back up to it.');
    const link = within(cards).getByRole('link', { name: 'Open the store' });
    expect(link).toHaveAttribute('href', '#/store');
  });

  it('says nothing of a store that no machine backs up into, and does not look at it', async () => {
    const transport = emptyServer()
      .on('GET', '/api/hosts', [machine()])
      .on('GET', '/api/repositories', [repository()])
      .on('GET', '/api/store', away);
    const { app } = show(FleetView, transport);
    await waitFor(() => expect(app.fleet.repositories.data).toBeDefined());
    await row('atlas');
    expect(screen.queryByText('The store is away')).toBeNull();
    expect(transport.sent('GET', '/api/store')).toEqual([]);
  });

  it('keeps the code of a machine that asks to join on one line', async () => {
    const transport = emptyServer()
      .on('GET', '/api/hosts', [machine()])
      .on('GET', '/api/announcements', [announcement()]);
    show(FleetView, transport);
    const code = await screen.findByText('ABCD-EFGH');
    expect(code.closest('h2')).toHaveTextContent('web-1 asks to join — code ABCD-EFGH');
  });
});

describe('the keyboard', () => {
  it('moves with j and k, and r does what the row offers', async () => {
    const transport = emptyServer()
      .on('GET', '/api/hosts', machines)
      .on('POST', '/api/hosts/b/runs', () => ({ status: 201, body: run() }));
    show(FleetView, transport);
    await screen.findByRole('link', { name: 'alpha' });
    await userEvent.keyboard('jj');
    expect(screen.getByRole('link', { name: 'bravo' })).toHaveFocus();
    await userEvent.keyboard('r');
    expect(transport.sent('POST', '/api/hosts/b/runs')).toHaveLength(1);
    await userEvent.keyboard('k');
    expect(screen.getByRole('link', { name: 'alpha' })).toHaveFocus();
  });
});

describe('the page', () => {
  it('opens with the sentence', async () => {
    show(FleetView, emptyServer().on('GET', '/api/hosts', [machines[0]]));
    expect(await screen.findByRole('heading', { level: 1 })).toHaveTextContent(/Your machine is/);
  });

  it('teaches the next step when there is nothing', async () => {
    show(FleetView, emptyServer());
    expect(await screen.findByText('Add the first machine')).toBeVisible();
  });

  it('says why when the fleet cannot be read', async () => {
    const transport = emptyServer().on('GET', '/api/hosts', () =>
      refusal('internal', 'Something broke.', { guidance: 'Its log has the cause.' }),
    );
    show(FleetView, transport);
    expect(await screen.findByText('Something broke.')).toBeVisible();
    expect(screen.getByText('Its log has the cause.')).toBeVisible();
  });
});

describe('the last 30 days', () => {
  it('are drawn for machines whose plans run by the clock, and told to those who do not see them', async () => {
    const days = [...Array(29).fill([]), [{ standing: 'missed', count: 1 }]];
    const transport = emptyServer()
      .on('GET', '/api/hosts', machines)
      .on('GET', '/api/slots', [{ host_id: 'a', first: '2026-10-31', days }]);
    show(FleetView, transport);
    const strip = await (await row('alpha')).findByRole('img', { name: /went well/ });
    expect(strip).toHaveAccessibleName('0 of 1 day all went well. Sun 29 Nov: 1 missed');
    expect(strip.querySelectorAll('i')).toHaveLength(30);
    expect((await row('bravo')).queryByRole('img', { name: /days/ })).toBeNull();
  });
});

describe('the next run', () => {
  it('is told for each machine that has one, as people say it', async () => {
    const soon = machine({ id: 'n', name: 'nova', next_at: '2099-12-24T02:00:00+01:00' });
    show(FleetView, emptyServer().on('GET', '/api/hosts', [soon, machines[0]]));
    const next = (await row('nova')).getByText('Thu 24 Dec 2099, 02:00');
    expect(next).toHaveAttribute('title', expect.stringContaining('Europe/Berlin'));
    expect((await row('alpha')).queryByText(/, \d\d:\d\d$/)).toBeNull();
  });

  it('is no time of the clock for a machine that sleeps', async () => {
    const next_at = '2099-12-24T02:00:00+01:00';
    const asleep = machine({ id: 'z', name: 'zed', verdict: 'asleep', is_online: false, next_at });
    show(FleetView, emptyServer().on('GET', '/api/hosts', [asleep]));
    expect((await row('zed')).getByText('when it wakes')).toBeVisible();
    expect((await row('zed')).queryByText(/2099/)).toBeNull();
  });
});

describe('the time in which nobody looked', () => {
  const tally = { succeeded: 4, partial: 0, failed: 1, interrupted: 0, cancelled: 0, missed: 0 };
  const report = away({
    since: new Date(Date.now() - 48 * 3_600_000).toISOString(),
    tally,
    troubled: [{ host_id: 'c', name: 'charlie', tally }],
  });
  const server = () =>
    emptyServer()
      .on('GET', '/api/hosts', machines)
      .on('GET', '/api/away', report)
      .on('POST', '/api/away/seen', () => ({ status: 204, body: undefined }));

  it('is told in a sentence, with the machines that had trouble, until it was seen', async () => {
    const transport = server();
    show(FleetView, transport);
    const told = within(await screen.findByRole('region', { name: 'While you were away' }));
    expect(told.getByText(/You last looked/)).toHaveTextContent(
      'You last looked 2 days ago. Since then 5 runs: 4 fine, 1 failed.',
    );
    await userEvent.click(told.getByRole('button', { name: 'See 1 machine with trouble' }));
    expect(told.getByRole('link', { name: 'charlie' })).toHaveAttribute('href', '#/machines/c');
    await userEvent.click(told.getByRole('button', { name: 'Put away what happened' }));
    expect(screen.queryByRole('region', { name: 'While you were away' })).toBeNull();
    expect(transport.sent('POST', '/api/away/seen')).toEqual([{ until: report.until }]);
  });
});
