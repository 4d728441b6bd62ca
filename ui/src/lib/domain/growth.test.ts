// Growth out of snapshots, and retention out of fields.
import type { Snapshot } from '$lib/api/types';
import { describe, expect, it } from 'vitest';
import { fileCount, growth, monthsUntilFull, perMonth, storeGrowth } from './growth';
import { lines, readRetention, retentionWords } from './retention';

const snapshot = (day: number, plan: string, size?: number): Snapshot => ({
  id: `${plan}${day}`,
  short_id: 'x',
  hostname: 'a',
  time: new Date(Date.UTC(2026, 0, day)).toISOString(),
  tags: [`plan:${plan}`],
  paths: ['/'],
  size_bytes: size,
});

describe('growth', () => {
  it('adds up the newest of every plan', () => {
    const points = growth([snapshot(3, 'a', 15), snapshot(1, 'a', 10), snapshot(2, 'b', 100)]);
    expect(points.map((point) => point.bytes)).toEqual([10, 110, 115]);
  });

  it('has one point a day, with all plans of that day', () => {
    const later = { ...snapshot(1, 'b', 100), time: '2026-01-01T05:00:00Z' };
    expect(growth([snapshot(1, 'a', 10), later]).map((point) => point.bytes)).toEqual([110]);
  });

  it('leaves out what has no size', () => {
    expect(growth([snapshot(1, 'a'), snapshot(2, 'a', 5)])).toHaveLength(1);
  });

  it('has a rate only over a week or more', () => {
    const days = (n: number) =>
      growth(Array.from({ length: n }, (_, i) => snapshot(i + 1, 'a', 1000 + i * 10)));
    expect(perMonth(days(5))).toBeUndefined();
    expect(perMonth(days(10))).toBeCloseTo(304.4, 1);
  });
});

describe('the growth of the store', () => {
  const sizes = [
    { at: '2026-01-01T23:00:00Z', bytes: 10 },
    { at: '2026-01-02T08:00:00Z', bytes: 20 },
  ];
  const now = Date.parse('2026-01-02T09:00:00Z');
  const drawn = (used?: number) => storeGrowth(sizes, used, now).map((point) => point.bytes);

  it('ends with what is in it now, and away with what was noted last', () => {
    expect(drawn(25)).toEqual([10, 25]);
    expect(drawn()).toEqual([10, 20]);
  });

  it('says when the disk is full only while it grows', () => {
    expect(monthsUntilFull(50, 200)).toBe(4);
    for (const rate of [undefined, 0, -5]) expect(monthsUntilFull(rate, 200)).toBeUndefined();
    expect(monthsUntilFull(50, null)).toBeUndefined();
  });
});

describe('the files of a machine', () => {
  it('are those of the newest snapshot of each plan', () => {
    const of = (day: number, plan: string, file_count?: number) => ({
      ...snapshot(day, plan),
      file_count,
    });
    expect(fileCount([of(1, 'a', 5), of(2, 'a', 7), of(1, 'b', 100)])).toBe(107);
    expect(fileCount([of(1, 'a', 5), of(1, 'b')])).toBeUndefined();
    expect(fileCount([])).toBeUndefined();
  });
});

describe('retention', () => {
  it('is read out of fields', () => {
    expect(readRetention({ keep_daily: ' 7 ', keep_weekly: '', keep_last: '0' })).toEqual({
      keep_daily: 7,
    });
    expect(readRetention({})).toBeNull();
    expect(readRetention({ keep_daily: 'seven' })).toBe('keep_daily');
    expect(readRetention({ keep_daily: '-1' })).toBe('keep_daily');
  });

  it('is told in words', () => {
    expect(retentionWords({ keep_daily: 7, keep_yearly: 1 })).toBe('keeps 7 days, 1 year');
    expect(retentionWords(null)).toBe('keeps every snapshot');
  });

  it('reads lines that say something', () => {
    expect(lines(' /etc \n\n/home\n')).toEqual(['/etc', '/home']);
  });
});
