// Deciding about a machine that asks: what is sent, and what becomes of a refusal.
import { screen } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { announcement, plan } from '../../test/fakes';
import AnnouncementView from '../../views/AnnouncementView.svelte';

beforeEach(() => (window.location.hash = ''));

const open = (more: object, transport = emptyServer()) => {
  transport
    .on('GET', '/api/announcements', [announcement(more)])
    .on('GET', '/api/plans', [plan()])
    .on('POST', '/api/announcements/a1/approve', () => ({ status: 201, body: { host_id: 'h9' } }))
    .on('POST', '/api/announcements/a1/refuse', () => ({ status: 204 }));
  show(AnnouncementView, transport, { id: 'a1' });
  return transport;
};

describe('a machine that asks', () => {
  it('is approved with the code that was shown', async () => {
    const transport = open({});
    expect(await screen.findByText('ABCD-EFGH')).toBeVisible();
    const name = screen.getByLabelText('What is the machine called?');
    expect(name).toHaveValue('web-1');
    await userEvent.clear(name);
    await userEvent.type(name, 'Web server');
    await userEvent.selectOptions(await screen.findByLabelText('Plan'), 'docs');
    await userEvent.click(screen.getByRole('button', { name: 'Approve' }));
    expect(transport.sent('POST', '/api/announcements/a1/approve')).toEqual([
      { code: 'ABCD-EFGH', name: 'Web server', plan_id: 'p1' },
    ]);
    expect(window.location.hash).toBe('#/machines/h9');
  });

  it('cannot be approved before it was confirmed there, and can be refused', async () => {
    const transport = open({ is_confirmed: false, is_name_taken: true });
    expect(await screen.findByRole('button', { name: 'Approve' })).toBeDisabled();
    expect(screen.getByText(/has the name web-1 already/)).toBeVisible();
    await userEvent.click(screen.getByRole('button', { name: 'Refuse' }));
    expect(transport.sent('POST', '/api/announcements/a1/refuse')).toHaveLength(1);
    expect(window.location.hash).toBe('#/');
  });

  it('that is gone is told as that', async () => {
    const transport = emptyServer();
    show(AnnouncementView, transport, { id: 'a1' });
    expect(await screen.findByText('This machine does not ask any more.')).toBeVisible();
  });
});
