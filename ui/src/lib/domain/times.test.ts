import { describe, expect, it } from 'vitest';
import { timesWords } from './times';

describe('when a plan runs', () => {
  it('is said in words where there are some', () => {
    expect(timesWords('0 2 * * *')).toBe('runs every night at 2');
    expect(timesWords(null)).toBe('runs by hand only');
    expect(timesWords('')).toBe('runs by hand only');
    expect(timesWords('5 4 * * mon')).toBe('runs at 5 4 * * mon');
  });
});
