// What a check found is said as it was told, and errors are never hidden by a check that went well.
import { describe, expect, it } from 'vitest';
import { ago, repository } from '../../test/fakes';
import { checkWords, tellingCheck } from './check';

const facts = (hours: number, status: string) =>
  repository({ facts: { locks: [], last_check_at: ago(hours), last_check_status: status } }).facts;

describe('the last check', () => {
  it.each([
    ['ok', 'no errors'],
    ['failed', 'errors found'],
    ['repaired', 'repaired'],
    [null, ''],
  ])('that ended with %s', (status, words) => expect(checkWords(status)).toBe(words));

  it('of several repositories is the oldest, unless one found errors', () => {
    const [old, fresh] = [facts(90, 'ok'), facts(2, 'ok')];
    expect(tellingCheck([fresh, old])).toBe(old);
    const bad = facts(1, 'failed');
    expect(tellingCheck([fresh, bad, old])).toBe(bad);
    expect(tellingCheck([{ locks: [] }])).toBeUndefined();
  });
});
