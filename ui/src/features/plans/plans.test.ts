// The pages of plans: who has which, the form and what it is refused for.
import { screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import type { Verdict } from '$lib/api/types';
import { beforeEach, describe, expect, it } from 'vitest';
import { parseRoute } from '$lib/state/route.svelte';
import PlanPageView from '../../views/PlanPageView.svelte';
import PlansView from '../../views/PlansView.svelte';
import { emptyServer, show } from '../../test/app';
import { backupRun, machine, plan, refusal, repository } from '../../test/fakes';
import { knowWords, planStand, plansSentence, versionWords } from './standing';

const atlas = machine({ tags: ['web'] });
const nova = machine({
  id: 'm2',
  name: 'nova',
  in_sync: false,
  acked_generation: 3,
  desired_generation: 4,
  last_runs: [backupRun({ id: 'f', status: 'failed' })],
});
const orion = machine({ id: 'm3', name: 'orion', plan_ids: [], plans: [] });
const docs = plan({
  all_host_ids: ['m1', 'm2'],
  host_ids: ['m2'],
  host_tags: ['web'],
  revision: 7,
});

function server() {
  return emptyServer()
    .on('GET', '/api/hosts', [atlas, nova, orion])
    .on('GET', '/api/plans', [docs])
    .on('GET', '/api/plans/presets', [
      {
        name: 'trash',
        title: 'Trash',
        help: 'What was deleted.',
        everywhere: [],
        linux: ['/home/*/.local/share/Trash/*'],
        darwin: ['.Trashes'],
        windows: ['$RECYCLE.BIN'],
      },
    ])
    .on('GET', '/api/repositories', [repository()]);
}

const button = (name: string | RegExp) => screen.getByRole('button', { name });
const click = (name: string | RegExp) => userEvent.click(button(name));
const fill = async (label: string | RegExp, text: string) => {
  const field = screen.getByLabelText(label);
  await userEvent.clear(field);
  if (text) await userEvent.type(field, text);
};

beforeEach(() => (window.location.hash = ''));

describe('how a plan stands', () => {
  it('says how many machines have it, and what each has', () => {
    const stand = planStand(docs, [atlas, nova, orion]);
    expect(knowWords(stand)).toBe('1 of 2 machines has it');
    expect(stand.outcome).toBe('1 failed, 1 succeeded');
    expect(stand.glyph).toBe('failed');
    expect(stand.on.map((it) => it.tags)).toEqual([['web'], []]);
    const version = (machine: typeof nova) =>
      planStand(docs, [machine]).on.map((it) => versionWords(it))[0];
    expect(version(nova)).toBe('has version 3 of 4');
    expect(version({ ...nova, acked_generation: 0 })).toBe('does not have it yet');
    expect(knowWords(planStand(docs, [atlas]))).toBe('atlas has it');
    expect(knowWords(planStand(docs, [orion]))).toBe('no machine has it');
  });

  it('never looks greener than its worst machine, and not at all where it is paused', () => {
    expect(planStand(docs, [atlas]).glyph).toBe('ok');
    const fresh = machine({ last_runs: [] });
    expect(planStand(docs, [fresh, nova]).glyph).toBe('failed');
    expect(planStand(docs, [fresh]).glyph).toBe('unknown');
    expect(planStand({ ...docs, enabled: false }, [atlas]).glyph).toBe('cancelled');
    expect(planStand(docs, [machine({ state: 'revoked' })]).on).toEqual([]);
  });

  it('is no success of old where a backup is late or nothing was heard', () => {
    const stand = (verdict: Verdict) => {
      const { glyph, outcome } = planStand(docs, [machine({ verdict })]);
      return [glyph, outcome];
    };
    expect(stand('late')).toEqual(['missed', 'late']);
    expect(stand('silent')).toEqual(['unknown', 'not heard from']);
    expect(stand('asleep')).toEqual(['asleep', 'asleep']);
    expect(stand('protected')).toEqual(['ok', 'succeeded']);
  });

  it('does not call a machine one that has it where its agent cannot run it', () => {
    const refused = machine({ verdict: 'refused' });
    const stand = planStand(docs, [refused]);
    expect([stand.glyph, stand.outcome, stand.know]).toEqual(['failed', 'did not get it', 0]);
    expect(stand.on.map((it) => versionWords(it))).toEqual(['cannot run its hooks']);
  });

  it('tells first of machines without a plan', () => {
    expect(plansSentence([docs], [atlas, orion])).toBe('One machine has no plan.');
    expect(plansSentence([{ ...docs, enabled: false }], [atlas])).toBe('One plan is paused.');
    expect(plansSentence([docs], [atlas, nova])).toBe('Every machine has a plan.');
    expect(plansSentence([docs], [])).toBe('1 plan, and no machine yet.');
  });

  it('has addresses for the list, a new one and each', () => {
    expect(parseRoute('#/plans')).toEqual({ view: 'plans' });
    expect(parseRoute('#/plans/new')).toEqual({ view: 'plan' });
    expect(parseRoute('#/plans/p1')).toEqual({ view: 'plan', id: 'p1' });
  });
});

describe('the list of plans', () => {
  it('says what to do while there is none', async () => {
    show(PlansView, emptyServer());
    expect(await screen.findByRole('heading', { level: 1 })).toHaveTextContent('No plans yet.');
    const ways = screen.getAllByRole('link', { name: 'New plan' });
    expect(ways.every((it) => it.getAttribute('href') === '#/plans/new')).toBe(true);
    expect(screen.getByRole('link', { name: 'Add machine' })).toBeVisible();
  });

  it('pauses a plan and lets it run again', async () => {
    const transport = server().on('PUT', '/api/plans/p1', { ...docs, enabled: false });
    show(PlansView, transport);
    const row = within(await screen.findByRole('row', { name: /docs/ }));
    expect(row.getByRole('link', { name: 'docs' })).toHaveAttribute('href', '#/plans/p1');
    expect(row.getByText('1 of 2 machines has it')).toBeVisible();
    expect(row.getByText('tagged web; nova')).toBeVisible();
    transport.on('GET', '/api/plans', [{ ...docs, enabled: false }]);
    await click('Pause: docs');
    expect(transport.sent('PUT', '/api/plans/p1')).toEqual([{ enabled: false }]);
    expect(await screen.findByRole('button', { name: 'Resume: docs' })).toBeVisible();
  });
});

describe('the page of a plan', () => {
  const open = async (transport = server(), props: { id?: string } = { id: 'p1' }) => {
    const shown = show(PlanPageView, transport, props);
    await screen.findByRole('form');
    await screen.findByLabelText(/^Trash/);
    return { ...shown, transport };
  };

  it('tells which machine has which version', async () => {
    await open();
    expect(screen.getByRole('heading', { level: 1 })).toHaveTextContent(
      '1 of 2 machines has this plan.',
    );
    const list = within(screen.getByRole('list', { name: 'Its machines' }));
    const [first, second] = list.getAllByRole('listitem');
    expect(first).toHaveTextContent(/nova.*has version 3 of 4/);
    expect(within(first as HTMLElement).getByTitle(/Generation 3 of 4/)).toBeVisible();
    expect(second).toHaveTextContent(/atlas.*by the tag web.*has it/);
  });

  it('sends all of the form, and the revision that it was based on', async () => {
    const { transport } = await open();
    transport.on('PUT', '/api/plans/p1', { ...docs, revision: 8 });
    await userEvent.click(screen.getByLabelText(/^Trash/));
    await fill(/^Upload at most/, '512');
    await fill('Before', 'dump');
    await userEvent.click(screen.getByLabelText(/^Not while the machine runs on its battery/));
    await userEvent.click(screen.getByLabelText(/^orion/));
    await userEvent.type(screen.getByLabelText(/^All machines with one/), 'DB{Enter}');
    await userEvent.selectOptions(screen.getByLabelText('Into the repository'), 'store');
    await click('Save');
    const [sent] = transport.sent('PUT', '/api/plans/p1');
    expect(sent).toMatchObject({
      presets: ['trash'],
      options: { limit_upload_kib: 512, not_on_battery: true, hooks: { before: 'dump' } },
      repository_id: null,
      host_ids: ['m2', 'm3'],
      host_tags: ['web', 'db'],
      revision: 7,
    });
  });

  it('warns of a folder that is left out, and saves it all the same', async () => {
    const { transport } = await open();
    transport.on('PUT', '/api/plans/p1', docs);
    const trash = '/home/me/.local/share/Trash/files';
    await fill('Folders and files', `/srv/data\n${trash}`);
    const field = screen.getByLabelText('Folders and files');
    expect(field).not.toHaveAccessibleDescription(/Nothing of/);
    await userEvent.click(screen.getByLabelText(/^Trash/));
    expect(field).toHaveAccessibleDescription(
      new RegExp(`Nothing of ${trash} is backed up: “Trash” leaves out /home/\\*/.local`),
    );
    await userEvent.click(screen.getByLabelText(/^Trash/));
    await fill(/^Leave out/, 'data');
    expect(field).toHaveAccessibleDescription(/Nothing of \/srv\/data is backed up/);
    expect(field).toBeValid();
    await click('Save');
    expect(transport.sent('PUT', '/api/plans/p1')).toMatchObject([{ paths: ['/srv/data', trash] }]);
  });

  it('keeps what is typed when somebody else was quicker, and takes theirs over', async () => {
    const { transport } = await open();
    const theirs = { ...docs, paths: ['/srv'], excludes: ['*.tmp'], revision: 8 };
    transport
      .on('PUT', '/api/plans/p1', (body: unknown) =>
        (body as { revision: number }).revision === 8
          ? { body: { ...theirs, revision: 9 } }
          : { status: 409, body: { code: 'stale', message: 'Changed.' } },
      )
      .on('GET', '/api/plans/p1', theirs);
    await fill(/^Leave out/, '*.iso');
    await click('Save');
    const notice = await screen.findByRole('alert');
    expect(notice).toHaveTextContent('Somebody else changed this plan meanwhile.');
    expect(notice).toHaveTextContent('Theirs is in the form now: folders and files.');
    expect(notice).toHaveTextContent('yours stands if you save: what is left out.');
    expect(screen.getByLabelText(/^Leave out/)).toHaveValue('*.iso');
    expect(screen.getByLabelText(/^Folders and files/)).toHaveValue('/srv');
    await click('Save');
    await waitFor(() => expect(screen.queryByRole('alert')).toBeNull());
    expect(transport.sent('PUT', '/api/plans/p1')).toMatchObject([
      { paths: ['/etc'], excludes: ['*.iso'], revision: 7 },
      { paths: ['/srv'], excludes: ['*.iso'], revision: 8 },
    ]);
  });

  it('saves over a change of what no form is about', async () => {
    const { transport } = await open();
    const paused = { ...docs, enabled: false, revision: 8 };
    transport
      .on('PUT', '/api/plans/p1', (body: unknown) =>
        (body as { revision: number }).revision === 8
          ? { body: { ...paused, excludes: ['*.iso'], revision: 9 } }
          : { status: 409, body: { code: 'stale', message: 'Changed.' } },
      )
      .on('GET', '/api/plans/p1', paused);
    await fill(/^Leave out/, '*.iso');
    await click('Save');
    await waitFor(() => expect(transport.sent('PUT', '/api/plans/p1')).toHaveLength(2));
    expect(screen.queryByRole('alert')).toBeNull();
    expect(screen.getByLabelText(/^Leave out/)).toHaveValue('*.iso');
  });

  it('sends a script in the place of a name, and never both', async () => {
    const options = { hooks: { after: { text: 'x' } } };
    const { transport } = await open(server().on('GET', '/api/plans', [{ ...docs, options }]));
    transport.on('PUT', '/api/plans/p1', { ...docs, revision: 8 });
    expect(screen.getByLabelText(/^At the end.*script$/)).toHaveValue('x');
    await fill(/^Before: script/, 'pg_dumpall > /srv/dump');
    await fill('Before', 'dump');
    await click('Save');
    await waitFor(() =>
      expect(screen.getByLabelText(/^Before: script/)).toHaveAccessibleDescription(/either a name/),
    );
    expect(transport.sent('PUT', '/api/plans/p1')).toEqual([]);
    await fill('Before', '');
    await click('Save');
    const hooks = { before: { text: 'pg_dumpall > /srv/dump' }, after: { text: 'x' } };
    await waitFor(() =>
      expect(transport.sent('PUT', '/api/plans/p1')).toMatchObject([{ options: { hooks } }]),
    );
  });

  it('opens what is folded away when that is refused', async () => {
    const { transport } = await open();
    transport.on('PUT', '/api/plans/p1', () =>
      refusal('invalid_input', 'No such name.', { field: 'options.hooks.after' }),
    );
    const more = screen.getByText(/^More: limits/).closest('details');
    expect(more).not.toHaveAttribute('open');
    await fill(/^At the end, in any case$/, 'a/b');
    await click('Save');
    const field = screen.getByLabelText(/^At the end, in any case$/);
    await waitFor(() => expect(field).toHaveAccessibleDescription('No such name.'));
    expect(more).toHaveAttribute('open');
    expect(field).toHaveValue('a/b');
  });

  it('is made with all that is missing named at once, and leads to the plan', async () => {
    const { transport } = await open(server(), {});
    transport.on('POST', '/api/plans', () => ({ status: 201, body: plan({ id: 'p2' }) }));
    await fill(/^Files read at once/, 'many');
    await click('Make the plan');
    for (const words of [
      'Give the plan a name.',
      'Name at least one folder or file to back up.',
      'Choose where its snapshots go.',
      'It is a whole number, or empty.',
    ]) {
      expect(screen.getByText(words, { selector: '.error' })).toBeVisible();
    }
    expect(transport.sent('POST', '/api/plans')).toEqual([]);
    await fill(/^Files read at once/, '4');
    await fill(/^Name of the plan/, 'web');
    await fill(/^Folders and files/, '/srv');
    await userEvent.selectOptions(screen.getByLabelText('Into the repository'), 'r1');
    await click('Make the plan');
    await waitFor(() => expect(window.location.hash).toBe('#/plans/p2'));
    expect(transport.sent('POST', '/api/plans')).toMatchObject([
      { name: 'web', paths: ['/srv'], repository_id: 'r1', options: { read_concurrency: 4 } },
    ]);
  });
});
