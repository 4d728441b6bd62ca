// The manager's own settings: addresses that are typed stay, and what nothing uses can be deleted.
import { screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { machine, plan, refusal, repository } from '../../test/fakes';
import SettingsView from '../../views/SettingsView.svelte';

const server = () =>
  emptyServer()
    .on('GET', '/api/system', { version: '0.1.0', addresses: ['h:9781'], manager_key: 'key' })
    .on('GET', '/api/audit', [])
    .on('GET', '/api/hosts', [machine()])
    .on('GET', '/api/plans', [plan(), plan({ id: 'p2', name: 'spare', host_ids: [] })])
    .on('GET', '/api/repositories', [
      repository({ plan_ids: ['p1', 'p2'] }),
      repository({ id: 'r2', name: 'wrong', url: 'rest:http://x/y/', plan_ids: [], host_ids: [] }),
    ]);

describe('the addresses', () => {
  it('that are typed stay until they are saved or given up', async () => {
    const { app } = show(SettingsView, server());
    const field = await screen.findByLabelText('Addresses');
    expect(field).toHaveValue('h:9781');
    expect(screen.queryByRole('button', { name: 'Discard changes' })).toBeNull();
    await userEvent.type(field, '\nother:9781');
    expect(screen.getByText('Unsaved changes')).toBeVisible();
    expect(app.keep('addresses', () => ({ text: '' })).text).toBe('h:9781\nother:9781');
    await userEvent.click(screen.getByRole('button', { name: 'Discard changes' }));
    expect(field).toHaveValue('h:9781');
    expect(field).toHaveFocus();
    expect(screen.queryByText('Unsaved changes')).toBeNull();
  });
});

describe('all plans and repositories', () => {
  it('say who uses them', async () => {
    show(SettingsView, server());
    const plans = within(await screen.findByRole('region', { name: 'Plans' }));
    expect(await plans.findByText(/Into box,\s+on atlas\./)).toBeVisible();
    expect(plans.getByText(/on no machine\./)).toBeVisible();
    const repositories = within(screen.getByRole('region', { name: 'Repositories' }));
    expect(await repositories.findByText('Used by docs, spare.')).toBeVisible();
    expect(repositories.getByText('No plan uses it.')).toBeVisible();
    expect(
      repositories.queryByRole('button', { name: 'Delete the repository box' }),
      'one that is in use stays',
    ).toBeNull();
  });

  it('delete an unused repository with its name typed, and tell why not', async () => {
    let isUsed = true;
    const transport = server().on('DELETE', '/api/repositories/r2', () =>
      isUsed ? refusal('conflict', 'A plan still writes into this repository.') : { status: 204 },
    );
    show(SettingsView, transport);
    const button = await screen.findByRole('button', { name: 'Delete the repository wrong' });
    await userEvent.click(button);
    const dialog = within(await screen.findByRole('dialog'));
    await userEvent.type(dialog.getByLabelText('Type wrong to confirm'), 'wrong');
    await userEvent.click(dialog.getByRole('button', { name: 'Delete it' }));
    expect(await dialog.findByText(/still writes into this repository/)).toBeVisible();
    isUsed = false;
    await userEvent.click(dialog.getByRole('button', { name: 'Delete it' }));
    await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
    expect(transport.sent('DELETE', '/api/repositories/r2')).toEqual([
      { confirm: 'wrong' },
      { confirm: 'wrong' },
    ]);
  });
});
