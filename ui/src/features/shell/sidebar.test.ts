// What the sidebar says about the manager and its agents.
import { screen } from '@testing-library/svelte';
import { describe, expect, it } from 'vitest';
import type { Machine } from '$lib/api/types';
import { emptyServer, show } from '../../test/app';
import { machine } from '../../test/fakes';
import Sidebar from './Sidebar.svelte';

describe('the line at the bottom', () => {
  /** Over a manager that counted before its one agent went away. */
  async function shown(machines: Machine[]) {
    const counts = { online: 1, hosts: 1 };
    const system = { version: '0.1.0', addresses: ['h:9781'], counts };
    const server = emptyServer().on('GET', '/api/system', system).on('GET', '/api/hosts', machines);
    const { app } = show(Sidebar, server);
    const stops = [app.fleet.machines.start(), app.fleet.system.start()];
    const line = await screen.findByText(/^Listening on 9781/);
    stops.forEach((stop) => stop());
    return { app, line };
  }

  it('counts as connected what the pages show as connected', async () => {
    const away = machine({ id: 'm2', is_online: false });
    expect((await shown([away])).line).toHaveTextContent('0 of 1 agents connected');
  });

  it('counts no machine that was revoked', async () => {
    const revoked = machine({ id: 'm2', state: 'revoked', is_online: false });
    expect((await shown([machine(), revoked])).line).toHaveTextContent('1 of 1 agents connected');
  });

  it('says nothing of agents without a connection to the manager', async () => {
    const { app } = await shown([machine()]);
    app.connection = 'lost';
    expect(await screen.findByText('No connection to the manager')).toBeVisible();
    expect(screen.queryByText(/connected/)).toBeNull();
  });
});
