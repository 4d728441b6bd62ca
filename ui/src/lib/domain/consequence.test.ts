// What is said before something goes is no more and no less than what is known.
import { run } from '../../test/fakes';
import { describe, expect, it } from 'vitest';
import { forgetConsequence, hasPruned, pruneConsequence } from './consequence';

describe('a forget', () => {
  const preview = (stats: object) => run({ kind: 'forget', stats: stats as never });

  it('says how many go and stay where a preview told it', () => {
    const three = preview({ removed_count: 3, kept_count: 38, suspect_count: 1 });
    expect(forgetConsequence(three, false)).toContain('3 snapshots of this plan and machine go');
    expect(forgetConsequence(three, false)).toContain('and 39 stay.');
    const one = preview({ removed_count: 1, kept_count: 1 });
    expect(forgetConsequence(one, false)).toMatch(/1 snapshot .* goes, and 1 stays\./);
  });

  it('leaves it to the retention where none told', () => {
    expect(forgetConsequence(undefined, false)).toContain("plan's retention decides");
    expect(forgetConsequence(preview({}), false)).toContain("plan's retention decides");
  });

  it('can be brought back from the store, and from nowhere else', () => {
    expect(forgetConsequence(undefined, true)).toContain('brought back for seven days');
    expect(forgetConsequence(undefined, false)).not.toContain('brought back');
  });
});

describe('a prune', () => {
  it('verifies first and frees the room late in the store, and nowhere else', () => {
    expect(pruneConsequence(true)).toMatch(/verified before anything is deleted/);
    expect(pruneConsequence(true)).toMatch(/seven days.*room on the disk becomes free only after/s);
    expect(pruneConsequence(false)).not.toMatch(/verified|seven days/);
  });

  it('has put something away only where it ended well and found something', () => {
    const pruned = (more: object) =>
      hasPruned(run({ kind: 'prune', status: 'succeeded', ...more }));
    expect(pruned({ stats: { total_removed: { blobs: 3, bytes: 40 } } })).toBe(true);
    expect(pruned({ stats: { total_removed: null } })).toBe(true);
    expect(pruned({ stats: { total_removed: { blobs: 0, bytes: 0 } } })).toBe(false);
    expect(pruned({ options: { dry_run: true, read_data: false, include: [] } })).toBe(false);
    expect(pruned({ status: 'failed' })).toBe(false);
    expect(pruned({ kind: 'forget' })).toBe(false);
  });
});
