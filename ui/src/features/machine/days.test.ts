// The days of a machine: one is chosen by mouse or keyboard, and each of its times is told.
import { screen, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { machine, plan } from '../../test/fakes';
import Days from './Days.svelte';

const days = [
  ...Array<never[]>(28).fill([]),
  [{ standing: 'failed', count: 1 }],
  [{ standing: 'ran', count: 1 }],
];
const slots = [
  {
    plan_id: plan().id,
    at: '2026-11-28T01:00:00Z',
    shown: '2026-11-28T02:00:00+01:00',
    standing: 'asleep',
    run_id: null,
  },
  {
    plan_id: 'gone',
    at: '2026-11-28T13:00:00Z',
    shown: '2026-11-28T14:00:00+01:00',
    standing: 'failed',
    run_id: 'x1',
  },
];

const server = () =>
  emptyServer()
    .on('GET', '/api/hosts', [machine({ time_zone: 'Europe/Berlin' })])
    .on('GET', '/api/plans', [plan()])
    .on('GET', '/api/slots', [{ host_id: machine().id, first: '2026-10-31', days }])
    .on('GET', `/api/hosts/${machine().id}/slots`, slots);

describe('the last 30 days of a machine', () => {
  it('tell each time of the day that is chosen, by the clock of the machine', async () => {
    show(Days, server(), { machine: machine({ time_zone: 'Europe/Berlin' }) });
    await userEvent.click(await screen.findByRole('button', { name: 'Sat 28 Nov: 1 failed' }));
    const list = within(await screen.findByRole('list'));
    const told = list
      .getAllByRole('listitem')
      .map((it) => it.textContent?.replace(/\s+/g, ' ').trim());
    expect(told).toEqual(['14:00 a former plan failed View', `02:00 ${plan().name} asleep or off`]);
    expect(list.getByRole('link', { name: /View/ })).toHaveAttribute('href', '#/runs/x1');
  });

  it('are one stop of the Tab key, and the arrows move within', async () => {
    show(Days, server(), { machine: machine() });
    const today = await screen.findByRole('button', { name: 'Sun 29 Nov: 1 ran' });
    await userEvent.tab();
    expect(today).toHaveFocus();
    await userEvent.keyboard('{ArrowLeft}{Enter}');
    const chosen = screen.getByRole('button', { name: 'Sat 28 Nov: 1 failed' });
    expect(chosen).toHaveFocus();
    expect(chosen).toHaveAttribute('aria-pressed', 'true');
    await userEvent.keyboard('{Home}');
    expect(screen.getByRole('button', { name: 'Sat 31 Oct: nothing was due' })).toHaveFocus();
  });

  it('say so where they are those of UTC', async () => {
    show(Days, server(), { machine: machine({ time_zone: null }) });
    expect(await screen.findByText(/its days and times are those of UTC/)).toBeVisible();
  });

  it('are not shown for a machine whose plans run by hand', async () => {
    const { app } = show(Days, server().on('GET', '/api/slots', []), { machine: machine() });
    await expect.poll(() => app.fleet.strips.data).toEqual([]);
    expect(screen.queryByText('Last 30 days')).toBeNull();
  });
});
