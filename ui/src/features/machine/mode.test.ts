// Whether a machine is on when nobody uses it: saved as it was chosen, and nothing typed is lost.
import { screen, waitFor } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { machine, refusal } from '../../test/fakes';
import Mode from './Mode.svelte';

const path = '/api/hosts/m1/mode';
const button = (name: string) => screen.getByRole('button', { name });

describe('when a machine is on', () => {
  it('is chosen with the days that a laptop may sleep, and a refusal keeps what was typed', async () => {
    const transport = emptyServer().on('GET', '/api/hosts', [machine()]);
    show(Mode, transport, { machine: machine() });
    expect(screen.getByRole('radio', { name: /Always on/ })).toBeChecked();
    expect(screen.queryByLabelText(/Days without a backup/)).toBeNull();
    expect(button('Set when it is on')).toBeDisabled();
    await userEvent.click(screen.getByRole('radio', { name: /Intermittent/ }));
    const days = screen.getByLabelText(/Days without a backup/);
    expect(days).toHaveValue('14');
    transport.on('PUT', path, () =>
      refusal('invalid_input', 'Too many days.', { field: 'stale_after_days' }),
    );
    await userEvent.clear(days);
    await userEvent.type(days, '400');
    await userEvent.click(button('Set when it is on'));
    await waitFor(() => expect(days).toHaveAccessibleDescription(/Too many days/));
    expect(days).toHaveValue('400');
    transport.on('PUT', path, machine({ mode: 'intermittent', stale_after_days: 30 }));
    await userEvent.clear(days);
    await userEvent.type(days, '30');
    await userEvent.click(button('Set when it is on'));
    await waitFor(() => expect(transport.sent('PUT', path)).toHaveLength(2));
    expect(transport.sent('PUT', path)).toEqual([
      { mode: 'intermittent', stale_after_days: 400 },
      { mode: 'intermittent', stale_after_days: 30 },
    ]);
  });

  it('leaves the days of a laptop alone where it becomes a server', async () => {
    const laptop = machine({ mode: 'intermittent', stale_after_days: 30 });
    const transport = emptyServer().on('GET', '/api/hosts', [laptop]).on('PUT', path, machine());
    show(Mode, transport, { machine: laptop });
    await userEvent.click(screen.getByRole('radio', { name: /Always on/ }));
    await userEvent.click(button('Set when it is on'));
    await waitFor(() => expect(transport.sent('PUT', path)).toEqual([{ mode: 'always_on' }]));
  });
});
