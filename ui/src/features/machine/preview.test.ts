// What would go is shown before it goes; what cannot be what it says stops that, and can be left aside.
import { screen, waitFor } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import type { Run } from '$lib/api/types';
import { forgetConsequence } from '$lib/domain/consequence';
import { expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { machine, run } from '../../test/fakes';
import Preview from './Preview.svelte';

it('goes on without the snapshots that stopped it, in the preview and for good', async () => {
  const path = '/api/hosts/m1/runs';
  let asked = 0;
  const transport = emptyServer()
    .on('POST', path, () => ({ status: 201, body: run({ id: `x${++asked}`, kind: 'forget' }) }))
    .on('GET', '/api/repositories/r1/snapshots', { snapshots: [] });
  const form = { kind: 'forget', plan_id: 'p1' };
  const consequence = (it: Run | undefined) => forgetConsequence(it, true);
  show(Preview, transport, { machine: machine(), form, verb: 'Forget', consequence });

  const ends = async (id: string, more: object) => {
    const ours = () => transport.streams.find((it) => it.path.startsWith(`/api/runs/${id}/`));
    await waitFor(() => expect(ours()).toBeDefined());
    ours()?.open();
    ours()?.send('state', run({ id, kind: 'forget', is_terminal: true, ...more }));
    ours()?.send('end', {});
  };
  await userEvent.click(screen.getByRole('button', { name: 'Forget: show what would go' }));
  await ends('x1', { status: 'failed', code: 'snapshots_suspect', error: 'Nothing was deleted.' });
  expect(await screen.findByRole('button', { name: 'Forget now' })).toBeDisabled();

  await userEvent.click(screen.getByRole('button', { name: 'Go on without them' }));
  await ends('x2', {
    status: 'succeeded',
    repository_id: 'r1',
    stats: { removed: ['a1'], removed_count: 1, kept_count: 2, suspect_count: 3 },
  });
  const sum = '1 snapshot would go, 2 would stay. 3 suspect ones would stay too.';
  expect(await screen.findByText(sum)).toBeInTheDocument();
  await userEvent.click(screen.getByRole('button', { name: 'Forget now' }));
  const dialog = screen.getByRole('dialog');
  expect(dialog).toHaveTextContent('1 snapshot of this plan and machine goes, and 5 stay.');
  expect(dialog).toHaveTextContent('What goes can be brought back for seven days');
  await userEvent.type(screen.getByRole('textbox'), 'atlas');
  const buttons = screen.getAllByRole('button', { name: 'Forget now' });
  await userEvent.click(buttons[buttons.length - 1] as HTMLElement);
  await waitFor(() => expect(asked).toBe(3));
  const kept = { ...form, keep_suspects: true };
  expect(transport.sent('POST', path)).toEqual([
    { ...form, dry_run: true },
    { ...kept, dry_run: true },
    { ...kept, confirm: 'atlas' },
  ]);
});
