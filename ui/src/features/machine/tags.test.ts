// The tags of a machine: what they mean for its plans is said before, and nothing typed is lost.
import { screen, waitFor } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { machine, plan, refusal } from '../../test/fakes';
import Tags from './Tags.svelte';

const atlas = machine({ tags: ['web'] });
const docs = plan({ host_ids: [], all_host_ids: ['m1'], host_tags: ['web'] });
const button = (name: string) => screen.getByRole('button', { name });
const click = (name: string) => userEvent.click(button(name));

describe('the tags of a machine', () => {
  it('say which plans come and go with them, and keep what is refused', async () => {
    const mail = plan({ id: 'p3', name: 'mail', host_ids: [], host_tags: ['mail'] });
    const transport = emptyServer()
      .on('GET', '/api/hosts', [atlas])
      .on('GET', '/api/plans', [docs, mail]);
    const { app } = show(Tags, transport, { machine: atlas });
    await waitFor(() => expect(app.fleet.plans.data).toHaveLength(2));
    const field = screen.getByLabelText('Tags of this machine');
    expect(button('Set the tags')).toBeDisabled();
    await click('Take the tag web away');
    await userEvent.type(field, 'Mail,');
    expect(screen.getByText(/It gets mail\. It loses docs; its snapshots stay\./)).toBeVisible();
    transport.on('PUT', '/api/hosts/m1/tags', () =>
      refusal('invalid_input', 'That is no tag.', { field: 'tags' }),
    );
    await click('Set the tags');
    await waitFor(() => expect(field).toHaveAccessibleDescription(/^That is no tag\./));
    expect(button('Take the tag mail away')).toBeVisible();
    transport.on('PUT', '/api/hosts/m1/tags', machine({ tags: ['mail'] }));
    await userEvent.type(field, 'office');
    await click('Set the tags');
    expect(transport.sent('PUT', '/api/hosts/m1/tags')).toEqual([
      { tags: ['mail'] },
      { tags: ['mail', 'office'] },
    ]);
  });
});
