// What a preview of a forget says.
import type { Snapshot } from '$lib/api/types';
import { describe, expect, it } from 'vitest';
import { sum, wouldGo, wouldGoCount } from './would-go';

const snapshot = (id: string, time: string): Snapshot => ({
  id,
  short_id: id,
  hostname: 'a',
  time,
  tags: [],
  paths: ['/'],
});

describe('what would go', () => {
  const run = { stats: { removed: ['a', 'b', 'x'], removed_count: 3, kept_count: 4 } };

  it('is told by date, newest first, and what is not known comes last', () => {
    const known = [snapshot('a', '2026-01-01T00:00:00Z'), snapshot('b', '2026-02-01T00:00:00Z')];
    expect(wouldGo(run, known).map((it) => [it.id, it.snapshot?.time.slice(0, 10)])).toEqual([
      ['b', '2026-02-01'],
      ['a', '2026-01-01'],
      ['x', undefined],
    ]);
  });

  it('is summed up in a sentence', () => {
    expect(sum(run)).toMatch(/^3.snapshots would go, 4 would stay\.$/);
    expect(sum({ stats: { removed: [], removed_count: 0, kept_count: 1 } })).toMatch(/^Nothing/);
  });

  it('is not known of a run that tells nothing', () => {
    expect(wouldGo({ stats: null }, [])).toEqual([]);
    expect(wouldGoCount({ stats: { snapshots: 1 } })).toBeUndefined();
  });
});
