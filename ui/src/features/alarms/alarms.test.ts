// Channels and what was told by them: nothing secret is shown, and nothing is called sent that was not.
import { screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { alarm, channel, machine, plan, refusal } from '../../test/fakes';
import AlarmsView from '../../views/AlarmsView.svelte';
import ChannelPageView from '../../views/ChannelPageView.svelte';

const server = () =>
  emptyServer().on('GET', '/api/hosts', [machine()]).on('GET', '/api/plans', [plan()]);

beforeEach(() => (window.location.hash = ''));

describe('the page', () => {
  it('says that nobody is told, and what to do', async () => {
    show(AlarmsView, server());
    expect(await screen.findByRole('heading', { level: 1 })).toHaveTextContent(
      'Nobody is told yet when a backup fails.',
    );
    expect(screen.getAllByRole('link', { name: 'New channel' })[0]).toHaveAttribute(
      'href',
      '#/alarms/new',
    );
  });

  it('says that a channel tells of changes from then on, where one is made, tried or listed', async () => {
    const silence = /not of what is failed or overdue already; a test message shows that it works/;
    const transport = server().on('GET', '/api/alarm-channels', [channel()]);
    for (const [view, props] of [
      [AlarmsView, {}],
      [ChannelPageView, {}],
      [ChannelPageView, { id: 'c1' }],
    ] as const) {
      const { unmount } = show(view, transport, props);
      expect(await screen.findByText(silence)).toBeVisible();
      unmount();
    }
  });

  it('lists channels, and what was told with what became of it', async () => {
    const lost = { channel_id: 'c1', channel_name: 'Chat', attempts: 30 };
    const transport = server()
      .on('GET', '/api/alarm-channels', [channel()])
      .on('GET', '/api/alarms', [
        alarm(),
        alarm({ id: 'al2', state: 'good', deliveries: [{ ...lost, result: 'gave_up' }] }),
      ]);
    const { app } = show(AlarmsView, transport);
    app.fleet.plans.set([plan()]);
    app.fleet.machines.set([machine()]);
    const table = within(await screen.findByRole('table', { name: 'Channels' }));
    expect(table.getByRole('link', { name: 'Chat' })).toHaveAttribute('href', '#/alarms/c1');
    expect(table.getByText('https://chat.example')).toBeVisible();
    const told = within(screen.getByRole('region', { name: 'What was told' }));
    expect(await told.findByText('Chat: sent')).toBeVisible();
    expect(told.getByText('Chat: not sent, given up after 30 attempts')).toBeVisible();
  });
});

describe('a new channel', () => {
  it('asks for what its kind needs, and shows a refusal at its field', async () => {
    let isRefused = true;
    const transport = server().on('POST', '/api/alarm-channels', () =>
      isRefused
        ? refusal('invalid_input', 'It is no address.', { field: 'url' })
        : { status: 201, body: channel() },
    );
    show(ChannelPageView, transport);
    await userEvent.selectOptions(await screen.findByLabelText('Kind'), 'webhook');
    await userEvent.type(screen.getByLabelText('Name'), 'Chat');
    await userEvent.click(screen.getByRole('button', { name: 'Add the channel' }));
    expect(screen.getByText('Say where it leads.')).toBeVisible();
    await userEvent.type(screen.getByLabelText('Address'), 'chat');
    await userEvent.click(screen.getByRole('button', { name: 'Add the channel' }));
    expect(await screen.findByText('It is no address.')).toBeVisible();
    isRefused = false;
    await userEvent.click(screen.getByRole('button', { name: 'Add the channel' }));
    await waitFor(() => expect(window.location.hash).toBe('#/alarms/c1'));
    expect(transport.sent('POST', '/api/alarm-channels').at(-1)).toEqual({
      name: 'Chat',
      kind: 'webhook',
      url: 'chat',
      all_hosts: true,
      host_ids: [],
      host_tags: [],
    });
  });

  it('of mail has a server, and several who get it', async () => {
    const transport = server().on('POST', '/api/alarm-channels', () => ({
      status: 201,
      body: channel(),
    }));
    show(ChannelPageView, transport);
    await userEvent.selectOptions(await screen.findByLabelText('Kind'), 'smtp');
    expect(screen.queryByLabelText('Address')).toBeNull();
    await userEvent.type(screen.getByLabelText('Name'), 'Mail');
    await userEvent.type(screen.getByLabelText('Mail server'), 'mail.example');
    await userEvent.type(screen.getByLabelText('From'), 'a@b.example');
    await userEvent.type(screen.getByLabelText('To'), 'c@d.example\ne@f.example');
    await userEvent.click(screen.getByRole('button', { name: 'Add the channel' }));
    await waitFor(() => expect(transport.sent('POST', '/api/alarm-channels')).toHaveLength(1));
    expect(transport.sent('POST', '/api/alarm-channels')[0]).toMatchObject({
      kind: 'smtp',
      mail: { host: 'mail.example', port: 587, to: ['c@d.example', 'e@f.example'], username: null },
    });
  });
});

describe('a channel that is there', () => {
  const page = (transport = server()) => {
    transport.on('GET', '/api/alarm-channels', [channel()]);
    const shown = show(ChannelPageView, transport, { id: 'c1' });
    shown.app.fleet.machines.set([machine()]);
    return { ...shown, transport };
  };

  it('keeps what is secret unless something is typed', async () => {
    const { transport } = page(
      server().on('PUT', '/api/alarm-channels/c1', () => ({ body: channel({ name: 'Room' }) })),
    );
    const name = await screen.findByLabelText('Name');
    expect(screen.getByLabelText('Address')).toHaveValue('');
    await userEvent.clear(name);
    await userEvent.type(name, 'Room');
    await userEvent.click(screen.getByRole('button', { name: 'Save' }));
    await waitFor(() => expect(transport.sent('PUT', '/api/alarm-channels/c1')).toHaveLength(1));
    expect(transport.sent('PUT', '/api/alarm-channels/c1')[0]).toEqual({
      name: 'Room',
      all_hosts: true,
      host_ids: [],
      host_tags: [],
      revision: 0,
    });
  });

  it('is tried from a machine that is there, and says what came of it', async () => {
    let isLost = true;
    const { transport } = page(
      server().on('POST', '/api/alarm-channels/c1/test', () =>
        isLost
          ? refusal('channel_refused', 'The server answered 404.', { guidance: 'Check it.' })
          : { body: { machine: 'atlas' } },
      ),
    );
    const button = await screen.findByRole('button', { name: 'Send a test message' });
    await userEvent.click(button);
    expect(await screen.findByText('The server answered 404.')).toBeVisible();
    isLost = false;
    await userEvent.click(screen.getByRole('button', { name: 'Send a test message' }));
    expect(await screen.findByText('atlas sent it, and it was taken.')).toBeVisible();
    expect(transport.sent('POST', '/api/alarm-channels/c1/test')[0]).toEqual({ host_id: 'm1' });
  });
});
