// The page of the store: how it stands, what it warns of, limits, what left, and the way back.
import { screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { describe, expect, it } from 'vitest';
import type { Store } from '$lib/api/types';
import { emptyServer, show } from '../../test/app';
import { ago, refusal, store, stored } from '../../test/fakes';
import StoreView from '../../views/StoreView.svelte';

const here = (more: Partial<Store> = {}) =>
  store({
    state: 'here',
    folder: '/mnt/backups',
    total_bytes: 2e12,
    free_bytes: 1.2e12,
    repositories: [stored()],
    ...more,
  });
const serving = (shown: Store) => emptyServer().on('GET', '/api/store', shown);
const heading = () => screen.findByRole('heading', { level: 1 });

describe('the store', () => {
  it('without a folder says what it would be, and takes one', async () => {
    const transport = emptyServer().on('PUT', '/api/store', here({ repositories: [] }));
    show(StoreView, transport);
    expect(await heading()).toHaveTextContent('Backups can lie on this computer.');
    expect(screen.getByText(/They lie on the disk and in the house/)).toBeVisible();
    await userEvent.click(screen.getByRole('button', { name: 'Use this folder' }));
    expect(transport.sent('PUT', '/api/store')).toEqual([{ folder: '/home/admin/store' }]);
    expect(await screen.findByText('No machine backs up to here yet')).toBeVisible();
  });

  it('tells the machines of the fleet and those that left apart', async () => {
    const left = stored({ repository_id: 's2', host_name: 'boreas', has_left: true });
    show(StoreView, serving(here({ repositories: [stored(), left] })));
    expect(await heading()).toHaveTextContent(/^24.GB of backups on this computer\.$/);
    const table = screen.getByRole('table', { name: 'What lies in the store' });
    expect(within(table).getByRole('link', { name: 'atlas' })).toBeVisible();
    expect(within(table).queryByText('boreas')).toBeNull();
    const kept = screen.getByRole('region', { name: 'Kept from machines that left' });
    expect(kept).toHaveTextContent(/boreas.*12.GB/);
    expect(kept).toHaveTextContent('nothing deletes them by itself');
  });

  it('says of one machine what it says of each of several', async () => {
    const two = [stored(), stored({ repository_id: 's2', host_name: 'boreas' })];
    const { unmount } = show(StoreView, serving(here()));
    expect(await screen.findByText('with its own repository')).toBeVisible();
    unmount();
    show(StoreView, serving(here({ repositories: two })));
    expect(await screen.findByText('each with its own repository')).toBeVisible();
  });

  it('that is away asks first where it lies', async () => {
    const away = here({ state: 'away', free_bytes: null, total_bytes: null });
    show(StoreView, serving(away));
    expect(await screen.findByRole('alert')).toHaveTextContent(/Connect the disk/);
    expect(screen.getByRole('region', { name: 'It lies elsewhere now' })).toBeVisible();
    expect(screen.queryByText(/Nothing\. What is deleted/)).toBeNull();
  });

  it('warns of a disk and of a limit that are nearly full', async () => {
    const full = stored({ quota_bytes: 12_100_000_000 });
    show(StoreView, serving(here({ free_bytes: 2e10, repositories: [full] })));
    expect(await screen.findByText('The disk of the store is nearly full.')).toBeVisible();
    expect(screen.getByText('atlas has nearly filled its limit.')).toBeVisible();
  });

  it('says how it is moved', async () => {
    show(StoreView, serving(here()));
    const move = await screen.findByRole('region', { name: 'Move it to another disk' });
    expect(within(move).getAllByRole('listitem')).toHaveLength(3);
    expect(move).toHaveTextContent('Machines need no new enrolment.');
  });

  it('brings back what was deleted', async () => {
    const deletions = [{ at: ago(20), until: ago(-148), files: 9, bytes: 4e9, snapshots: 2 }];
    const path = '/api/store/repositories/s1/bring-back';
    const transport = serving(here({ repositories: [stored({ deletions })] })).on('POST', path, {
      files: 9,
    });
    show(StoreView, transport);
    await userEvent.click(await screen.findByRole('button', { name: /^Bring back what was/ }));
    expect(transport.sent('POST', path)).toEqual([{ at: ago(20) }]);
  });

  it('keeps the focus by what is left when something was brought back', async () => {
    const deletions = [{ at: ago(20), until: ago(-148), files: 9, bytes: 4e9, snapshots: 2 }];
    let shown = here({ repositories: [stored({ deletions })] });
    const transport = emptyServer()
      .on('GET', '/api/store', () => ({ body: shown }))
      .on('POST', '/api/store/repositories/s1/bring-back', () => {
        shown = here();
        return { body: { files: 9 } };
      });
    show(StoreView, transport);
    await userEvent.click(await screen.findByRole('button', { name: /^Bring back what was/ }));
    await waitFor(() =>
      expect(screen.getByRole('group', { name: 'What can be brought back' })).toHaveFocus(),
    );
    expect(screen.getByText(/^Nothing\. What is deleted/)).toBeVisible();
  });

  it('is looked at again when somebody comes back to the window', async () => {
    let shown = here();
    show(
      StoreView,
      emptyServer().on('GET', '/api/store', () => ({ body: shown })),
    );
    expect(await heading()).toHaveTextContent('of backups on this computer');
    shown = here({ state: 'away' });
    window.dispatchEvent(new Event('focus'));
    await waitFor(
      () =>
        expect(screen.getByRole('heading', { level: 1 })).toHaveTextContent('The store is away.'),
      { timeout: 4000 },
    );
  });
});

describe('a limit', () => {
  const path = '/api/store/repositories/s1';
  const open = async (transport = serving(here())) => {
    show(StoreView, transport);
    await userEvent.click(await screen.findByRole('button', { name: /^Change limit: / }));
    return screen.getByLabelText('How much may it fill?');
  };
  const save = () => userEvent.click(screen.getByRole('button', { name: 'Save' }));

  it('is read with its unit, and lifted when left empty', async () => {
    const limited = here({ repositories: [stored({ quota_bytes: 5e11 })] });
    const transport = serving(here()).on('PUT', path, limited);
    const field = await open(transport);
    expect(field).toHaveFocus();
    expect(field).toHaveAccessibleDescription(/It has 12.GB now/);
    await userEvent.type(field, '500');
    await save();
    expect(field).toHaveAccessibleDescription(/with its unit/);
    await userEvent.type(field, ' GB');
    await save();
    expect(transport.sent('PUT', path)).toEqual([{ quota_bytes: 500_000_000_000 }]);
    const opener = screen.getByRole('button', { name: /^Change limit: / });
    expect(opener).toHaveFocus();
    await userEvent.click(opener);
    await userEvent.clear(screen.getByLabelText('How much may it fill?'));
    await save();
    expect(transport.sent('PUT', path).at(-1)).toEqual({ quota_bytes: null });
  });

  it('that is refused says why at its field, and keeps what was typed', async () => {
    const transport = serving(here()).on('PUT', path, () =>
      refusal('invalid_input', 'The machine has more than that here already.', {
        field: 'quota_bytes',
      }),
    );
    const field = await open(transport);
    await userEvent.type(field, '1 GB');
    await save();
    expect(field).toBeInvalid();
    expect(field).toHaveAccessibleDescription(/more than that here already/);
    expect(field).toHaveValue('1 GB');
  });
});
