// Components whose behaviour others rely on.
import { screen } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { createRawSnippet } from 'svelte';
import { describe, expect, it, vi } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { Problem } from '$lib/api/problem';
import ConfirmName from './ConfirmName.svelte';
import CopyBlock from './CopyBlock.svelte';
import RelativeTime from './RelativeTime.svelte';
import TextField from './TextField.svelte';
import { findIn, pieces } from './log/find';

const words = createRawSnippet(() => ({ render: () => '<p>What goes.</p>' }));

describe('a field', () => {
  it('ties its help and its error to the input', () => {
    show(TextField, emptyServer(), { label: 'Name', value: 'x', help: 'Short.', error: 'Taken.' });
    const input = screen.getByLabelText('Name');
    expect(input).toBeInvalid();
    expect(input).toHaveAccessibleDescription('Taken. Short.');
  });

  it('ties its warnings to the input, which stays valid', () => {
    const warnings = ['Nothing of /tmp is backed up.'];
    show(TextField, emptyServer(), { label: 'Paths', value: '/tmp', help: 'Short.', warnings });
    const input = screen.getByLabelText('Paths');
    expect(input).toBeValid();
    expect(input).toHaveAccessibleDescription('Nothing of /tmp is backed up. Short.');
    expect(screen.getByRole('status')).toHaveTextContent(warnings[0] ?? '');
  });

  it('is valid without an error', () => {
    show(TextField, emptyServer(), { label: 'Name', value: 'x' });
    expect(screen.getByLabelText('Name')).toBeValid();
  });
});

describe('text to be copied', () => {
  const text = "agent enroll --address='box:9781'  --key='k' <<'TOKEN'\n secret\nTOKEN\n";

  it('keeps each of its words together, and is copied as it is', async () => {
    const { platform } = show(CopyBlock, emptyServer(), { text, what: 'install line' });
    const block = screen.getByLabelText('install line');
    expect(block.textContent).toBe(text);
    const words = [...block.querySelectorAll('span')].map((word) => word.textContent);
    expect(words).toEqual(text.trim().split(/\s+/));
    await userEvent.click(screen.getByRole('button', { name: 'Copy the install line' }));
    expect(platform.copied).toEqual([text]);
  });
});

describe('a relative time', () => {
  it('ticks, with the absolute time at hand', async () => {
    const at = new Date(Date.now() - 120_000).toISOString();
    const { app } = show(RelativeTime, emptyServer(), { at });
    expect(screen.getByText(/2.min ago/)).toHaveAttribute('title', expect.stringContaining('20'));
    app.clock.now += 60_000;
    expect(await screen.findByText(/3.min ago/)).toBeVisible();
  });
});

describe('confirming with a name', () => {
  it('needs exactly the name, and stays with what was typed when refused', async () => {
    const refused = new Problem('not_confirmed', 'The typed name does not match.');
    const act = vi.fn().mockRejectedValueOnce(refused);
    const props = { open: true, title: 'Revoke', name: 'web-1', verb: 'Revoke it', act };
    show(ConfirmName, emptyServer(), { ...props, children: words });
    const button = await screen.findByRole('button', { name: 'Revoke it' });
    expect(button).toBeDisabled();
    await userEvent.type(screen.getByLabelText(/Type web-1/), 'web-1');
    await userEvent.click(button);
    expect(act).toHaveBeenCalledWith('web-1');
    expect(await screen.findByText('The typed name does not match.')).toBeVisible();
    expect(screen.getByLabelText(/Type web-1/)).toHaveValue('web-1');
  });
});

describe('finding in a log', () => {
  const line = (seq: number, text: string) => ({ seq, ts: '', stream: 'stdout', text });

  it('finds in any case, in what is shown', () => {
    const lines = [line(1, 'Open'), line(2, 'close'), line(3, 'reOPEN')];
    expect(findIn(lines, 'open', 3)).toEqual([0, 2]);
    expect(findIn(lines, 'open', 2)).toEqual([0]);
    expect(findIn(lines, '', 3)).toEqual([]);
  });

  it('cuts a line at what was found, and loses nothing', () => {
    expect(pieces('aXbx', 'x')).toEqual([
      { text: 'a', isHit: false },
      { text: 'X', isHit: true },
      { text: 'b', isHit: false },
      { text: 'x', isHit: true },
    ]);
    expect(
      pieces('İstanbul', 'i')
        .map((it) => it.text)
        .join(''),
    ).toBe('İstanbul');
  });
});
