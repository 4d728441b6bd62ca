// A machine's settings: what is wrong can be corrected, nothing typed is lost, and locks and checks are
// told as they are.
import { render, screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { describe, expect, it } from 'vitest';
import { emptyServer, show } from '../../test/app';
import { ago, machine, plan, refusal, repository } from '../../test/fakes';
import Harness from '../../test/Harness.svelte';
import { freeName } from './new-plan.svelte';
import { RepositoryDraft } from './repository-draft.svelte';
import Settings from './Settings.svelte';

const box = repository({ username: 'atlas', has_credential: true, ca_pem: 'PEM\n' });

function server(store = box) {
  return emptyServer()
    .on('GET', '/api/hosts', [machine()])
    .on('GET', '/api/plans', [plan({ retention: { keep_daily: 7, keep_within: '1y' } })])
    .on('GET', '/api/repositories', [store]);
}

async function open(transport = server()) {
  const props = { machine: machine(), onleft: () => {} };
  const shown = show(Settings, transport, props);
  await screen.findByRole('button', { name: 'Change docs' });
  await screen.findByRole('button', { name: 'Change the repository box' });
  return { ...shown, transport };
}

const click = (name: string | RegExp) => userEvent.click(screen.getByRole('button', { name }));
const fill = async (label: string | RegExp, text: string) => {
  const field = screen.getByLabelText(label);
  await userEvent.clear(field);
  if (text) await userEvent.type(field, text);
};

describe('a repository that is corrected', () => {
  const read = (type: (draft: RepositoryDraft) => void, before = box) => {
    const draft = new RepositoryDraft(before);
    expect(draft.isChanged).toBe(false);
    type(draft);
    return draft.read();
  };

  it('sends what was typed and nothing else', () => {
    expect(read((it) => (it.url = ' rest:http://box:8000/other/ '))).toEqual({
      url: 'rest:http://box:8000/other/',
    });
    expect(read((it) => (it.caPem = ''))).toEqual({ ca_pem: null });
    expect(read((it) => (it.username = ''))).toEqual({ username: null, credential: null });
    expect(read((it) => (it.credential = 'new'))).toEqual({ credential: 'new' });
    expect(read((it) => (it.appendOnly = true))).toEqual({ append_only: true });
    expect(read((it) => (it.password = 'other'))).toEqual({ password: 'other', confirm: '' });
  });

  it('puts each refusal to its field, keeps what was typed, and says that it is saved', async () => {
    let field = 'url';
    const { transport } = await open();
    transport.on('PUT', '/api/repositories/r1', () =>
      field === '' ? { body: box } : refusal('conflict', `Refused at ${field}.`, { field }),
    );
    await click('Change the repository box');
    const form = within(screen.getByRole('form', { name: 'Change box' }));
    expect(form.getByRole('button', { name: 'Save' })).toBeDisabled();
    await fill('Location', 'rest:http://box:8000/other/');
    await fill(/^Repository password/, 'other');
    await fill('Type box to replace its password', 'box');
    for (const [name, label] of [
      ['url', 'Location'],
      ['username', /^User/],
      ['credential', /^Password for the rest-server/],
      ['ca_pem', /^Certificate/],
      ['password', /^Repository password/],
      ['confirm', /^Type box/],
      ['name', 'Name'],
    ] as const) {
      field = name;
      await userEvent.click(form.getByRole('button', { name: 'Save' }));
      const refused = form.getByLabelText(label);
      await waitFor(() =>
        expect(refused).toHaveAccessibleDescription(new RegExp(`Refused at ${name}`)),
      );
      await waitFor(() => expect(refused).toHaveFocus());
    }
    expect(form.getByLabelText('Location')).toHaveValue('rest:http://box:8000/other/');
    field = '';
    await userEvent.click(form.getByRole('button', { name: 'Save' }));
    await waitFor(() => expect(screen.queryByRole('form', { name: 'Change box' })).toBeNull());
    expect(transport.sent('PUT', '/api/repositories/r1').at(-1)).toEqual({
      url: 'rest:http://box:8000/other/',
      password: 'other',
      confirm: 'box',
    });
  });

  it('wants its name typed only to replace the password of one that exists', async () => {
    await open(server(repository({ initialised_at: null })));
    await click('Change the repository box');
    await fill(/^Repository password/, 'other');
    expect(screen.queryByLabelText(/^Type box/)).toBeNull();
  });

  it('can be asked for before it is saved', async () => {
    const { transport } = await open();
    transport.on('POST', '/api/repositories/test', {
      state: 'empty',
      message: 'It is free.',
    });
    await click('Change the repository box');
    await fill(/^Password for the rest-server/, 'typed');
    await click('Test the connection');
    expect(await screen.findByText('It is free.')).toBeVisible();
    expect(transport.sent('POST', '/api/repositories/test')).toEqual([
      { url: box.url, username: 'atlas', credential: 'typed', ca_pem: 'PEM' },
    ]);
    expect(transport.sent('PUT', '/api/repositories/r1')).toEqual([]);
  });

  it('is not told to enter a password where it is there as it should be', async () => {
    const { transport } = await open();
    transport.on('POST', '/api/repositories/test', { state: 'repository', message: 'Enter it.' });
    await click('Change the repository box');
    await click('Test the connection');
    expect(await screen.findByText(/the repository is there. The password is not/)).toBeVisible();
    await fill('Location', 'rest:http://box:8000/other/');
    expect(await screen.findByText('Enter it.')).toBeVisible();
  });
});

describe('what is typed into a plan', () => {
  it('is there after looking elsewhere, and can be given up or saved', async () => {
    const { app, transport, unmount } = await open();
    transport.on('PUT', '/api/plans/p1', { ...plan(), name: 'docs' });
    await click('Change docs');
    expect(screen.getByRole('button', { name: 'Cancel' })).toBeVisible();
    await fill(/^Leave out/, '*.tmp');
    expect(screen.getByText('Unsaved changes')).toBeVisible();
    // Hidden, it is still there.
    await click('Change docs');
    expect(screen.getByText('Unsaved changes')).toBeVisible();
    await click('Change docs');
    expect(screen.getByLabelText(/^Leave out/)).toHaveValue('*.tmp');

    unmount();
    const props = { app, component: Settings, props: { machine: machine(), onleft: () => {} } };
    render(Harness, { props: props as never });
    expect(await screen.findByLabelText(/^Leave out/)).toHaveValue('*.tmp');
    await click('Discard changes');
    expect(screen.queryByLabelText(/^Leave out/)).toBeNull();
    await waitFor(() => expect(screen.getByRole('button', { name: 'Change docs' })).toHaveFocus());
    await click('Change docs');
    expect(screen.getByLabelText(/^Leave out/)).toHaveValue('');
    await fill(/^Leave out/, '*.bak');
    await click('Save');
    await waitFor(() => expect(screen.queryByLabelText(/^Leave out/)).toBeNull());
    expect(app.toasts.list.at(-1)?.title).toBe('The plan docs is saved.');
    expect(transport.sent('PUT', '/api/plans/p1')).toMatchObject([
      { excludes: ['*.bak'], retention: { keep_daily: 7, keep_within: '1y' } },
    ]);
  });
});

describe('the plans of a machine', () => {
  it('gets a further one, into a repository that is there', async () => {
    const { app, transport } = await open();
    transport.on('POST', '/api/plans', () => ({
      status: 201,
      body: plan({ name: 'atlas files' }),
    }));
    await click('New plan');
    await fill(/^Folders and files/, '/srv/two  blanks');
    await click('Make the plan');
    expect(screen.getByText('Choose where its snapshots go.')).toBeVisible();
    await userEvent.selectOptions(screen.getByLabelText('Into the repository'), 'r1');
    await click('Make the plan');
    await waitFor(() => expect(screen.queryByRole('form', { name: 'New plan' })).toBeNull());
    expect(transport.sent('POST', '/api/plans')).toMatchObject([
      {
        name: 'atlas files',
        paths: ['/srv/two  blanks'],
        repository_id: 'r1',
        host_ids: ['m1'],
      },
    ]);
    expect(app.toasts.list.at(-1)?.title).toBe('atlas has the plan atlas files now.');
  });

  it('gets a further one into the store, as its others are', async () => {
    const own = repository({ id: 's1', name: 'own', url: 'store:s1', store_host_id: 'm1' });
    const transport = emptyServer()
      .on('GET', '/api/hosts', [machine({ repository_ids: ['s1'] })])
      .on('GET', '/api/plans', [plan({ repository_id: null })])
      .on('GET', '/api/repositories', [own])
      .on('POST', '/api/plans', () => ({ status: 201, body: plan({ name: 'atlas files' }) }));
    show(Settings, transport, { machine: machine({ repository_ids: ['s1'] }), onleft: () => {} });
    await screen.findByRole('button', { name: 'Change docs' });
    await screen.findByRole('heading', { name: 'own' });
    await click('New plan');
    expect(screen.getByLabelText('Into the repository')).toHaveDisplayValue(
      'The store on this computer',
    );
    expect(screen.queryByText('Unsaved changes')).toBeNull();
    await fill(/^Folders and files/, '/srv');
    await click('Make the plan');
    await waitFor(() => expect(screen.queryByRole('form', { name: 'New plan' })).toBeNull());
    expect(transport.sent('POST', '/api/plans')).toMatchObject([
      { paths: ['/srv'], repository_id: null, host_ids: ['m1'] },
    ]);
  });

  it('runs the one that is meant, and says so', async () => {
    const { app, transport } = await open();
    const run = { id: 'r9', kind: 'backup', status: 'queued', host_id: 'm1', plan_id: 'p1' };
    transport.on('POST', '/api/hosts/m1/runs', () => ({ status: 201, body: run }));
    await userEvent.click(screen.getByRole('button', { name: 'Run now the plan docs' }));
    await waitFor(() => expect(app.toasts.list).toHaveLength(1));
    expect(transport.sent('POST', '/api/hosts/m1/runs')).toEqual([
      { kind: 'backup', plan_id: 'p1' },
    ]);
  });

  it('takes one away only when asked twice, and says what ended', async () => {
    const { app, transport } = await open();
    transport.on('PUT', '/api/plans/p1', plan({ host_ids: [] }));
    const opener = () => screen.getByRole('button', { name: 'Take away: docs' });
    await userEvent.click(opener());
    expect(screen.getByText('End its backups here?')).toBeVisible();
    expect(screen.getByRole('button', { name: 'Keep it' })).toHaveFocus();
    await userEvent.keyboard('{Escape}');
    expect(opener()).toHaveFocus();
    expect(transport.sent('PUT', '/api/plans/p1')).toEqual([]);
    await userEvent.click(opener());
    await click('Yes, take it away');
    await waitFor(() => expect(app.toasts.list).toHaveLength(1));
    expect(app.toasts.list[0]?.title).toBe('Backups of docs ended on atlas.');
    expect(transport.sent('PUT', '/api/plans/p1')).toEqual([{ host_ids: [] }]);
    await waitFor(() => expect(screen.getByRole('button', { name: 'New plan' })).toHaveFocus());
  });

  it('loses one with its name typed, told what stays', async () => {
    const { transport } = await open();
    transport.on('DELETE', '/api/plans/p1', () => ({ status: 204 }));
    await click('Change docs');
    await click('Delete the plan docs');
    const dialog = within(await screen.findByRole('dialog'));
    expect(dialog.getByText(/backed up no longer on atlas.*snapshots stay in box/s)).toBeVisible();
    expect(dialog.getByRole('button', { name: 'Delete it' })).toBeDisabled();
    await userEvent.type(dialog.getByLabelText('Type docs to confirm'), 'docs');
    await userEvent.click(dialog.getByRole('button', { name: 'Delete it' }));
    await waitFor(() => expect(transport.sent('DELETE', '/api/plans/p1')).toHaveLength(1));
  });

  it('are named so that no two have one name', () => {
    expect(freeName('atlas', [])).toBe('atlas files');
    expect(freeName('atlas', ['Atlas files', 'atlas files 2'])).toBe('atlas files 3');
  });
});

describe('what is known of a repository', () => {
  const lock = {
    id: 'l1',
    exclusive: true,
    hostname: 'vm',
    username: 'root',
    pid: 9374,
    time: ago(5),
  };

  it('calls a check that went well one without errors', async () => {
    const facts = { locks: [], last_check_at: ago(3), last_check_status: 'ok' };
    await open(server(repository({ facts })));
    expect(screen.getByText(/, no errors/)).toBeVisible();
  });

  it('names the way out of another restic’s lock', async () => {
    const locks = [lock, { ...lock, id: 'l2', hostname: 'atlas', pid: 77 }];
    await open(server(repository({ facts: { locks, read_at: ago(1) } })));
    expect(screen.getByText(/Another restic on this very machine, process 77/)).toBeVisible();
    expect(screen.getByText('This machine is not in this fleet.')).toBeVisible();
    expect(screen.getByText(/that process 9374 has ended/)).toBeVisible();
    expect(screen.getByLabelText('unlock command')).toHaveTextContent('restic unlock --remove-all');
  });
});
