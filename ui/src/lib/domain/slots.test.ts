// Strips and the report of what happened while nobody looked: never greener than the facts.
import { describe, expect, it } from 'vitest';
import { away } from '../../test/fakes';
import type { SlotStanding, Strip } from '$lib/api/types';
import { awayWords, isNews, slotLook, stripDays, stripWords, troubleWords } from './slots';

const day = (...counts: [SlotStanding, number][]) =>
  counts.map(([standing, count]) => ({ standing, count }));

const strip = (days: Strip['days']): Strip => ({ host_id: 'm1', first: '2026-02-27', days });

describe('a strip', () => {
  it('marks each day by its worst slot and tells all of them', () => {
    const days = stripDays(strip([day(['failed', 1], ['ran', 23]), day(), day(['asleep', 2])]));
    expect(days.map((it) => [it.date, it.mark])).toEqual([
      ['2026-02-27', 'failed'],
      ['2026-02-28', 'none'],
      ['2026-03-01', 'asleep'],
    ]);
    expect(days[0]?.words).toBe('Fri 27 Feb: 1 failed, 23 ran');
    expect(days[1]?.words).toBe('Sat 28 Feb: nothing was due');
  });

  it('is green only where a run succeeded', () => {
    const all: SlotStanding[] = [
      'due',
      'running',
      'ran',
      'covered',
      'asleep',
      'skipped',
      'waiting',
    ];
    const others: SlotStanding[] = [
      'unknown',
      'cancelled',
      'partial',
      'interrupted',
      'missed',
      'failed',
    ];
    const green = [...all, ...others].filter((it) => slotLook(it).mark === 'ran');
    expect(green).toEqual(['ran', 'covered']);
    // What a newer server says is not known here.
    expect(slotLook('dreamt' as SlotStanding).mark).toBe('unknown');
  });

  it('is told in words, the newest trouble first', () => {
    const words = (days: Strip['days']) => stripWords(stripDays(strip(days)));
    expect(words([day(), day()])).toBe('Nothing was due in the last 30 days');
    expect(words([day(['ran', 1]), day(['covered', 1])])).toBe('2 of 2 days all went well');
    expect(words([day(['failed', 1]), day(['ran', 1]), day(['missed', 2])])).toBe(
      '1 of 3 days all went well. Sun 1 Mar: 2 missed. Fri 27 Feb: 1 failed',
    );
  });
});

describe('what happened while nobody looked', () => {
  const none = away().tally;

  it('is nothing to tell before the first look and where nothing happened', () => {
    expect(isNews(away())).toBe(false);
    expect(isNews(away({ since: '2026-11-29T01:00:00Z' }))).toBe(false);
    expect(isNews(away({ since: '2026-11-29T01:00:00Z', tally: { ...none, missed: 1 } }))).toBe(
      true,
    );
  });

  it('says what went well first and what is missing last', () => {
    expect(awayWords({ ...none, succeeded: 57 })).toBe('57 runs, all fine.');
    expect(awayWords({ ...none, succeeded: 57, partial: 1, failed: 2, missed: 1 })).toBe(
      '60 runs: 57 fine, 1 partial, 2 failed; 1 time nothing ran although it should have.',
    );
    expect(awayWords({ ...none, missed: 3 })).toBe('3 times nothing ran although it should have.');
    expect(troubleWords({ ...none, succeeded: 2, failed: 1, missed: 2 })).toBe(
      '2 fine, 1 failed; 2 times nothing ran although it should have',
    );
  });
});
