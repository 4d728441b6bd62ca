// A plan's draft: what is typed is what is sent, and what somebody else changes meanwhile is not lost.
import { describe, expect, it } from 'vitest';
import { plan } from '../../test/fakes';
import { PlanDraft, THE_STORE } from './plan-draft.svelte';

const full = plan({
  excludes: ['*.tmp'],
  presets: ['trash'],
  cron: '0 2 * * *',
  retention: { keep_daily: 7, keep_within: '1y' },
  options: {
    one_file_system: true,
    exclude_caches: false,
    not_on_battery: false,
    not_metered: false,
    limit_upload_kib: 512,
    hooks: { before: 'dump', timeout_seconds: 60 },
  },
  host_tags: ['web'],
  revision: 3,
});

describe('a draft of a plan', () => {
  it('sends a plan back as it is', () => {
    const draft = PlanDraft.of(full);
    expect(draft.isChanged).toBe(false);
    expect(draft.revision).toBe(3);
    const { name, paths, excludes, presets, cron, retention, options } = full;
    expect(draft.read()).toEqual({
      fields: { name, paths, excludes, presets, cron, retention, options },
    });
  });

  it('clears what is emptied', () => {
    const draft = PlanDraft.of(full);
    draft.options.counts.limit_upload_kib = ' ';
    draft.options.hooks.before = '';
    draft.options.hookSeconds = '';
    draft.options.switches.one_file_system = false;
    draft.presets = [];
    expect(draft.isChanged).toBe(true);
    const read = draft.read();
    const fields = 'fields' in read ? read.fields : undefined;
    expect(fields?.presets).toEqual([]);
    expect(fields?.options).toEqual({
      one_file_system: false,
      exclude_caches: false,
      not_on_battery: false,
      not_metered: false,
      hooks: {},
    });
  });

  it('names every field that holds no number', () => {
    const draft = PlanDraft.of(full);
    draft.keep.keep_daily = 'a week';
    draft.options.counts.timeout_minutes = '1h';
    draft.options.hookSeconds = '-1';
    const read = draft.read();
    const wrong = 'wrong' in read ? read.wrong.map(([field]) => field) : [];
    expect(wrong).toEqual([
      'retention',
      'options.timeout_minutes',
      'options.hooks.timeout_seconds',
    ]);
    expect(draft.typed('options.timeout_minutes')).toBe('1h');
    expect(draft.typed('options.hooks.before')).toBe('dump');
  });

  it('goes to the store where the plan has no repository', () => {
    expect(PlanDraft.of(plan({ repository_id: null })).repository).toBe(THE_STORE);
    expect(PlanDraft.empty().repository).toBe('');
  });

  it('takes over what others changed, and keeps what is typed', () => {
    const draft = PlanDraft.of(full);
    draft.excludes = '*.iso';
    draft.hostTags = ['db'];
    const theirs = { ...full, paths: ['/srv'], host_tags: ['mail'], cron: null, revision: 5 };
    expect(draft.rebase(theirs)).toEqual({
      taken: ['folders and files', 'when it runs'],
      kept: ['its tags'],
    });
    expect(draft.revision).toBe(5);
    expect(draft.paths).toBe('/srv');
    expect(draft.cron).toBe('');
    expect(draft.excludes).toBe('*.iso');
    expect(draft.hostTags).toEqual(['db']);
    expect(draft.isChanged).toBe(true);
  });

  it('has nothing left to save when others typed the same', () => {
    const draft = PlanDraft.of(full);
    draft.paths = '/srv';
    expect(draft.rebase({ ...full, paths: ['/srv'], revision: 4 }).kept).toEqual([]);
    expect(draft.isChanged).toBe(false);
  });
});
