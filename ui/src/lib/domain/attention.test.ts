// The sentence, the line below it and the cards: never greener than the facts.
import { ago, machine, notice, NOW } from '../../test/fakes';
import type { Machine } from '$lib/api/types';
import { describe, expect, it } from 'vitest';
import { attention, lede, sentence, type Standings } from './attention';
import { machineState, ownLastGood, type LastGood } from './machine';

function standing(it: Machine, lastGood: LastGood = ownLastGood(it)): Standings {
  return { machine: it, lastGood, state: machineState(it, lastGood, NOW) };
}

const good = (id: string) => standing(machine({ id, name: id }));
const failed = (id: string, more: Partial<Machine> = {}) =>
  standing(
    machine({
      id,
      name: id,
      last_runs: [
        {
          id: 'f',
          kind: 'backup',
          status: 'failed',
          code: 'repository_unreachable',
          created_at: ago(2),
          finished_at: ago(2),
        },
      ],
      next_action: { action: 'retry', kind: 'backup', plan_id: 'p1', run_id: 'f' },
      ...more,
    }),
    { at: Date.parse(ago(48)), runId: 'old', isPartial: false },
  );

describe('a machine counts as protected', () => {
  const isProtected = (more: Partial<Machine>, lastGood?: LastGood) => {
    const it = machine(more);
    return machineState(it, lastGood === undefined ? ownLastGood(it) : lastGood, NOW).isProtected;
  };

  it('when its last backup is good and recent', () => {
    expect(isProtected({})).toBe(true);
  });

  it('also when it was switched off an hour ago', () => {
    expect(isProtected({ is_online: false, last_seen_at: ago(1) })).toBe(true);
  });

  it('not when nobody has heard of it for two days', () => {
    expect(isProtected({ is_online: false, last_seen_at: ago(48) })).toBe(false);
    expect(isProtected({ is_online: false, last_seen_at: null })).toBe(false);
  });

  it('not when the last good backup is more than a week old', () => {
    expect(isProtected({}, { at: NOW - 8 * 86_400_000, runId: 'x', isPartial: false })).toBe(false);
  });

  it('not when the newest run of a plan failed, however good the one before', () => {
    expect(failed('a').state.isProtected).toBe(false);
  });

  it('not while its last good backup is unknown', () => {
    const it = machine({
      last_runs: [{ id: 'c', kind: 'backup', status: 'cancelled', created_at: ago(1) }],
    });
    const state = machineState(it, ownLastGood(it), NOW);
    expect([state.isProtected, state.standing]).toEqual([false, 'unproven']);
  });

  it('shows no running arc for a run on a machine without contact', () => {
    const it = machine({
      is_online: false,
      last_runs: [{ id: 'b', kind: 'backup', status: 'running', created_at: ago(1) }],
      next_action: { action: 'view', run_id: 'b' },
    });
    const state = machineState(it, { at: NOW, runId: 'a', isPartial: false }, NOW);
    expect([state.glyph, state.words]).toEqual(['unknown', 'running, no contact']);
  });

  it('not when it is held, revoked, without a plan, or never backed up', () => {
    expect(isProtected({ hold: { code: 'clone_suspected', message: 'm' } })).toBe(false);
    expect(isProtected({ state: 'revoked' })).toBe(false);
    expect(isProtected({ plan_ids: [] })).toBe(false);
    expect(isProtected({ last_runs: [] })).toBe(false);
  });

  it('not when a repository of its plans is not initialised', () => {
    const next = { action: 'initialise', kind: 'init', repository_id: 'r1' } as const;
    expect(isProtected({ next_action: next })).toBe(false);
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
    expect(sentence([failed('a'), failed('b')])).toBe('No machine is protected yet.');
  });

  it('leaves revoked machines out', () => {
    const revoked = standing(machine({ id: 'r', state: 'revoked' }));
    expect(sentence([good('a'), revoked])).toBe('Your machine is protected.');
    expect(lede([good('a'), revoked])).toContain('1 is revoked');
  });

  it('has a line below that names what is not good', () => {
    expect(lede([good('a'), failed('b')])).toBe('1 failed.');
    expect(lede([good('a')])).toContain('good backup');
  });
});

describe('the cards', () => {
  it('are at most three, worst first, and say how many more there are', () => {
    const held = standing(
      machine({ id: 'h', name: 'h', hold: { code: 'clone_suspected', message: 'Two of one.' } }),
    );
    const unplanned = standing(machine({ id: 'u', name: 'u', plan_ids: [] }));
    const all = [good('g'), unplanned, failed('f1'), failed('f2'), held];
    const { cards, more } = attention(all, [], NOW);
    expect(cards.map((card) => card.key)).toEqual(['machine:h', 'machine:f1', 'machine:f2']);
    expect(more).toBe(1);
  });

  it('tell the cause, the evidence and one act', () => {
    const [card] = attention([failed('db')], [], NOW).cards;
    expect(card?.title).toMatch(/^db: backup failed 2.h ago$/);
    expect(card?.evidence).toContain('does not answer');
    expect(card?.evidence).toContain('last good backup');
    expect(card?.act.words).toBe('Retry');
    expect(card?.href).toBe('#/runs/f');
  });

  it('lead to the locks when the repository is locked', () => {
    const locked = failed('db', {
      last_runs: [
        {
          id: 'f',
          kind: 'backup',
          status: 'failed',
          code: 'repository_locked',
          created_at: ago(2),
          finished_at: ago(2),
        },
      ],
    });
    expect(attention([locked], [], NOW).cards[0]?.act).toMatchObject({
      do: 'open',
      href: '#/machines/db/settings',
    });
  });

  it('leave out a machine that somebody is at already', () => {
    const busy = failed('f', { next_action: { action: 'view', run_id: 'x' } });
    expect(attention([busy], [], NOW).cards).toEqual([]);
  });

  it('show notices, but not beside the hold that says the same', () => {
    expect(attention([good('a')], [notice()], NOW).cards[0]?.act.words).toBe('Put away');
    const held = standing(
      machine({ id: 'h', hold: { code: 'clone_suspected', message: 'Two of one.' } }),
    );
    expect(attention([held], [notice({ host_id: 'h' })], NOW).cards).toHaveLength(1);
  });
});
