// The sentence, the line below it and the cards: never greener than the facts.
import {
  ago,
  announcement,
  backupRun,
  goodBackup,
  machine,
  notice,
  NOW,
  repository,
} from '../../test/fakes';
import type { LastRun, Machine, Notice, Repository, Verdict } from '$lib/api/types';
import { describe, expect, it } from 'vitest';
import { THIN } from '$lib/format/number';
import { attention, lede, sentence, type Standings } from './attention';
import { lastGoodOf, machineState } from './machine';

function standing(it: Machine, repositories: Repository[] = []): Standings {
  return { machine: it, lastGood: lastGoodOf(it), state: machineState(it, NOW, repositories) };
}

const good = (id: string) => standing(machine({ id, name: id }));
const failure = { id: 'f', status: 'failed', created_at: ago(2), finished_at: ago(2) } as const;
const failed = (id: string, more: Partial<Machine> = {}) =>
  standing(
    machine({
      id,
      name: id,
      last_runs: [backupRun({ ...failure, code: 'repository_unreachable' })],
      last_good: goodBackup(48),
      next_action: { action: 'retry', kind: 'backup', plan_id: 'p1', run_id: 'f' },
      ...more,
    }),
  );

describe('a machine counts as protected', () => {
  const isProtected = (more: Partial<Machine>) => machineState(machine(more), NOW).isProtected;
  const plan = (id: string, last_good: Machine['last_good'], enabled = true) => ({
    plan_id: id,
    enabled,
    last_good,
    last_run: null,
    verdict: null,
  });

  it.each([
    ['protected', true, 'ok', 'protected'],
    ['asleep', true, 'asleep', 'asleep'],
    ['waiting', true, 'waiting', 'waits, something is in the way'],
    ['partial', true, 'partial', 'files unreadable'],
    ['never', false, 'unknown', 'a plan never ran'],
    ['silent', false, 'unknown', 'telling what it did'],
    ['late', false, 'missed', 'no backup for 3h'],
    ['refused', false, 'failed', 'cannot run its hooks'],
    ['failed', false, 'failed', 'failed 3h ago'],
  ] as const)('as the server says: %s', (verdict, counts, glyph, words) => {
    const state = machineState(machine({ verdict }), NOW);
    const told = state.words.replace(/\s/, ' ');
    expect([state.isProtected, state.glyph]).toEqual([counts, glyph]);
    expect(told.replaceAll(THIN, '')).toBe(words);
  });

  it('with words of its own while it is not connected', () => {
    const words = (verdict: Verdict, last_seen_at: string | null) =>
      machineState(machine({ verdict, is_online: false, last_seen_at }), NOW).words;
    expect(words('protected', ago(1))).toBe('protected, not connected');
    expect(words('asleep', ago(72))).toBe('asleep for 3 days');
    expect(words('silent', ago(48))).toBe('no word for 2 days');
    expect(words('silent', null)).toBe('not heard from');
  });

  it('never by what a newer server says', () => {
    expect(isProtected({ verdict: 'splendid' as Verdict })).toBe(false);
  });

  it('late by the oldest backup of the plans that are', () => {
    const of = (id: string, hours: number, verdict: Verdict) => ({
      ...plan(id, goodBackup(hours)),
      verdict,
    });
    const plans = [of('a', 1, 'protected'), of('b', 9 * 24, 'late')];
    const it = machine({ plans, verdict: 'late' });
    expect(machineState(it, NOW).words).toMatch(/^no backup for 9.d/);
    expect(machineState(machine({ plans: [], verdict: 'late' }), NOW).words).toBe('overdue');
  });

  it('not when all its plans are off', () => {
    const plans = [plan('a', goodBackup(1), false)];
    const state = machineState(machine({ plans, verdict: null }), NOW);
    expect([state.standing, state.words]).toEqual(['unplanned', 'its plans are off']);
  });

  it('shows no running arc for a run on a machine without contact', () => {
    const it = machine({
      is_online: false,
      last_runs: [backupRun({ status: 'running', finished_at: null })],
      next_action: { action: 'view', run_id: 'b' },
    });
    const state = machineState(it, NOW);
    expect([state.glyph, state.words]).toEqual(['unknown', 'running, no contact']);
  });

  it('is running whichever of its plans runs, also where a younger one has ended', () => {
    const going = backupRun({ id: 'x', status: 'running', finished_at: null });
    const plans = [{ ...plan('a', goodBackup(1)), last_run: going }];
    const it = machine({ plans, next_action: { action: 'view', run_id: 'x' } });
    expect(machineState(it, NOW).words).toBe('running');
  });

  it('not when it is held, revoked, without a plan, or never backed up', () => {
    expect(isProtected({ hold: { code: 'clone_suspected', message: 'm' } })).toBe(false);
    expect(isProtected({ state: 'revoked' })).toBe(false);
    expect(isProtected({ plan_ids: [] })).toBe(false);
    expect(isProtected({ last_runs: [], last_good: null })).toBe(false);
  });

  it('not when a repository of its plans is not initialised', () => {
    const next = { action: 'initialise', kind: 'init', repository_id: 'r1' } as const;
    expect(isProtected({ next_action: next })).toBe(false);
  });
});

describe('a check that found damage', () => {
  const check = (more: Partial<LastRun> = {}): LastRun => ({
    id: 'c',
    kind: 'check',
    status: 'failed',
    code: 'repository_damaged',
    created_at: ago(2),
    finished_at: ago(2),
    ...more,
  });
  const checked = (run: LastRun, facts?: Partial<Repository['facts']>) =>
    machineState(
      machine({ last_runs: [run, backupRun()] }),
      NOW,
      facts ? [repository({ facts: { locks: [], ...facts } })] : [],
    );

  it('outweighs the best backup, and says so', () => {
    const state = checked(check());
    expect([state.standing, state.isProtected]).toEqual(['damaged', false]);
    expect(state.words).toBe('check found damage');
    expect(state.damage?.runId).toBe('c');
  });

  it('is no damage where the check could not look', () => {
    for (const code of ['repository_locked', 'restic_missing'] as const) {
      expect(checked(check({ code })).standing).toBe('good');
    }
    expect(checked(check({ status: 'interrupted', code: 'interrupted' })).standing).toBe('good');
  });

  it('stays damage when a later check could not look, and goes with a sound one', () => {
    const locked = check({ code: 'repository_locked', finished_at: ago(1) });
    const found = { last_check_at: ago(2), last_check_status: 'failed' };
    expect(checked(locked, found).standing).toBe('damaged');
    const sound = check({ status: 'succeeded', code: null, finished_at: ago(1) });
    expect(checked(sound, { last_check_at: ago(1), last_check_status: 'ok' }).standing).toBe(
      'good',
    );
    // Another machine that writes into the same repository may have checked it since.
    expect(checked(check(), { last_check_at: ago(1), last_check_status: 'ok' }).standing).toBe(
      'good',
    );
  });

  it('has a card of its own with the way to the run, also while a backup is going', () => {
    const busy = { next_action: { action: 'view', run_id: 'b' } } as const;
    for (const more of [{}, busy]) {
      const it = standing(machine({ last_runs: [check(), backupRun()], ...more }));
      const [card] = attention([it, failed('f')], NOW).cards;
      expect(card?.title).toBe('atlas: a check found damage');
      expect(card?.act).toMatchObject({ do: 'open', href: '#/runs/c' });
    }
    const elsewhere = [repository({ facts: { locks: [], last_check_status: 'failed' } })];
    const [card] = attention([standing(machine(), elsewhere)], NOW).cards;
    expect(card?.act).toMatchObject({ do: 'open', href: '#/machines/m1/settings' });
  });

  it('is named in the line below the sentence', () => {
    const it = standing(machine({ last_runs: [check(), backupRun()] }));
    expect(lede([it, good('a')])).toBe('1 has a damaged repository.');
  });
});

describe('the sentence', () => {
  it('counts only what is protected', () => {
    expect(sentence([])).toBe('No machines yet.');
    expect(sentence([good('a')])).toBe('Your machine is protected.');
    expect(sentence([good('a'), good('b')])).toBe('All 2 machines are protected.');
    expect(sentence([good('a'), good('b'), good('c'), failed('d')])).toBe(
      '3 of 4 machines are protected.',
    );
    expect(sentence([failed('a'), failed('b')])).toBe('No machine is protected.');
    const fresh = standing(machine({ plans: [], last_runs: [], verdict: 'never' }));
    expect(sentence([fresh])).toBe('Your machine is not protected yet.');
    expect(sentence([fresh, failed('a')])).toBe('No machine is protected.');
  });

  it('does not say that nothing is protected where nothing was heard', () => {
    const silent = standing(machine({ verdict: 'silent' }));
    expect(sentence([silent, silent])).toBe('Nothing was heard of any machine.');
    expect(sentence([silent])).toBe('Nothing was heard of your machine.');
    expect(sentence([silent, failed('a')])).toBe('No machine is protected.');
  });

  it('counts machines that cannot be read, and none of them as protected', () => {
    expect(sentence([good('a')], 1)).toBe('1 of 2 machines are protected.');
    expect(sentence([], 1)).toBe('Your machine is not protected.');
    const silent = standing(machine({ verdict: 'silent' }));
    expect(sentence([silent], 1)).toBe('No machine is protected.');
  });

  it('leaves revoked machines out', () => {
    const revoked = standing(machine({ id: 'r', state: 'revoked' }));
    expect(sentence([good('a'), revoked])).toBe('Your machine is protected.');
    expect(lede([good('a'), revoked])).toContain('1 is revoked');
  });

  it('has a line below that sums up what is too much for a glance', () => {
    const of = (id: string, more: Partial<Machine>) => standing(machine({ id, name: id, ...more }));
    const all = [
      failed('a'),
      of('b', { verdict: 'late' }),
      of('c', { verdict: 'silent', is_online: false, last_seen_at: ago(60) }),
      of('d', { last_good: goodBackup(3, true) }),
      of('e', { plan_ids: [] }),
      of('f', { last_runs: [], last_good: null }),
      of('g', { state: 'revoked' }),
      of('h', { verdict: 'asleep', is_online: false, last_seen_at: ago(1) }),
    ];
    expect(lede(all)).toContain('1 is partial');
    expect(lede(all).split(', ')).toHaveLength(5);
    expect(lede(all)).toMatch(/, 2 more need a look\.$/);
  });

  it('has a line below that names what is not good', () => {
    expect(lede([good('a'), failed('b')])).toBe('1 failed.');
    expect(lede([good('a')])).toBe('It is backed up as its plans say.');
    expect(lede([good('a'), good('b')])).toBe('Each is backed up as its plans say.');
    expect(lede([good('a'), standing(machine({ verdict: 'asleep' }))])).toBe('1 is asleep.');
  });

  it('counts nothing where there is one machine', () => {
    expect(lede([failed('a')])).toBe('Its last run failed.');
    expect(lede([standing(machine({ verdict: 'asleep' }))])).toBe('It is asleep.');
  });
});

describe('the cards', () => {
  it('are at most three, worst first, and say how many more there are', () => {
    const held = standing(
      machine({ id: 'h', name: 'h', hold: { code: 'clone_suspected', message: 'Two of one.' } }),
    );
    const unplanned = standing(machine({ id: 'u', name: 'u', plan_ids: [] }));
    const all = [good('g'), unplanned, failed('f1'), failed('f2'), held];
    const { cards, more } = attention(all, NOW);
    expect(cards.map((card) => card.key)).toEqual(['machine:h', 'machine:f1', 'machine:f2']);
    expect(more).toBe(1);
  });

  it('tell the cause, the evidence and one act', () => {
    const [card] = attention([failed('db')], NOW).cards;
    expect(card?.title).toMatch(/^db: backup failed 2.h ago$/);
    expect(card?.evidence).toContain('does not answer');
    expect(card?.evidence).toContain('last good backup');
    expect(card?.act.words).toBe('Retry');
    expect(card?.href).toBe('#/runs/f');
  });

  it('tell what has happened as past, also where the clock of the machine is ahead', () => {
    const last_runs = [backupRun({ ...failure, finished_at: ago(-0.2) })];
    const ahead = failed('db', { last_runs });
    expect(ahead.state.words).toBe('failed just now');
    expect(attention([ahead], NOW).cards[0]?.title).toBe('db: backup failed just now');
  });

  it.each(['hook_unknown', 'hook_failed', 'source_empty', 'timed_out', 'stalled'] as const)(
    'name the cause of %s',
    (code) => {
      const it = failed('db', { last_runs: [backupRun({ ...failure, code })] });
      expect(attention([it], NOW).cards[0]?.evidence).not.toMatch(/^The last good/);
    },
  );

  it('call files unreadable only where files are', () => {
    const partial = (code: LastRun['code']) => {
      const last_runs = [backupRun({ id: 'good', status: 'partial', code })];
      const more = { last_runs, last_good: goodBackup(3, true), verdict: 'partial' } as const;
      return attention([standing(machine(more))], NOW).cards[0];
    };
    expect(partial('files_unreadable')?.title).toBe('atlas: some files were unreadable');
    expect(partial('hook_failed')?.title).toBe('atlas: a hook failed');
    expect(partial('hook_failed')?.act).toMatchObject({ href: '#/runs/good' });
  });

  it('need nobody for what sleeps or waits by itself', () => {
    const calm = (['asleep', 'waiting'] as const).map((verdict) => standing(machine({ verdict })));
    expect(attention(calm, NOW).cards).toEqual([]);
    const [late, refused] = (['late', 'refused'] as const).map(
      (verdict) => attention([standing(machine({ verdict }))], NOW).cards[0],
    );
    expect(late?.act.words).toBe('Run now');
    expect(refused?.title).toBe('atlas did not get a plan');
    expect(refused?.evidence).toContain('Update the agent');
  });

  it('offer no retry where the newest run is not the one that failed', () => {
    const run_now = { action: 'run_now', kind: 'backup', plan_id: 'p1' } as const;
    const [card] = attention([failed('a', { next_action: run_now })], NOW).cards;
    expect(card?.act.words).toBe('Run now');
  });

  it('lead to the locks when the repository is locked', () => {
    const locked = failed('db', {
      last_runs: [backupRun({ ...failure, code: 'repository_locked' })],
    });
    expect(attention([locked], NOW).cards[0]?.act).toMatchObject({
      do: 'open',
      href: '#/machines/db/settings',
    });
  });

  it('leave out a machine that somebody is at already', () => {
    const busy = failed('f', { next_action: { action: 'view', run_id: 'x' } });
    expect(attention([busy], NOW).cards).toEqual([]);
  });

  it('show notices, but not beside the hold that says the same', () => {
    expect(attention([good('a')], NOW, { notices: [notice()] }).cards[0]?.act.words).toBe(
      'Put away',
    );
    const held = standing(
      machine({ id: 'h', hold: { code: 'clone_suspected', message: 'Two of one.' } }),
    );
    expect(attention([held], NOW, { notices: [notice({ host_id: 'h' })] }).cards).toHaveLength(1);
  });

  it('tell of a machine that asks with its code, and lead to the decision', () => {
    const cards = (more: object) =>
      attention([good('a')], NOW, { asking: [announcement(more)] }).cards;
    expect(cards({})).toMatchObject([
      {
        title: 'web-1 asks to join — code ABCD-EFGH',
        act: { words: 'Decide', href: '#/announcements/a1' },
      },
    ]);
    expect(cards({ is_name_taken: true })[0]?.evidence).toContain('has this name already');
    expect(cards({ hostname: 'we\u202eb' })[0]?.title).toContain('web asks');
  });

  it('give all who ask one card, so that strangers hide nothing', () => {
    const asking = ['a', 'b', 'c', 'd', 'e'].map((id) => announcement({ id, hostname: id }));
    const { cards } = attention([failed('x'), failed('y')], NOW, { asking });
    expect(cards.map((it) => it.key)).toEqual(['asking', 'machine:x', 'machine:y']);
    expect(cards[0]?.title).toBe('5 machines ask to join');
    expect(cards[0]?.act).toMatchObject({ href: '#/add' });
  });

  it('say that the store is away, before what failed, and whom it keeps from a backup', () => {
    const cutOff = ['a', 'b', 'c', 'd'].map((id) => machine({ id, name: id }));
    const [card] = attention([failed('x')], NOW, { cutOff }).cards;
    expect(card).toMatchObject({ title: 'The store is away', act: { href: '#/store' } });
    expect(card?.evidence).toContain('a, b, c and 1 more cannot back up');
    expect(attention([failed('x')], NOW, { cutOff: [] }).cards).toHaveLength(1);
  });

  it('put a calm notice after what is not protected, and any other before it', () => {
    const first = (code: Notice['code']) =>
      attention([failed('f')], NOW, { notices: [notice({ code })] }).cards[0];
    expect(first('agent_behind')?.key).toBe('machine:f');
    expect(first('channel_refused')?.key).toBe('machine:f');
    expect(first('enrolment_suspect')?.key).toBe('notice:n1');
  });
});

describe('a machine without restic', () => {
  const without = { restic_version: '', last_seen_at: ago(0) };
  it('is told what it lacks before anything else is offered that must fail', () => {
    const cards = attention([failed('atlas', { ...without, is_online: true })], NOW).cards;
    expect(cards.map((card) => [card.title, card.act.words])).toEqual([
      ['atlas has no restic that works', 'Look'],
    ]);
    const away = attention([failed('atlas', { ...without, is_online: false })], NOW).cards;
    expect(away[0]?.act.words).toBe('Retry');
  });
});
