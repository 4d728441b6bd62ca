// What a run is called and how it looks, decided once for every screen.
import type { Run, RunKind, RunStatus } from '$lib/api/types';

/** The shapes of ../components/Glyph.svelte. */
export type GlyphName =
  | 'ok'
  | 'running'
  | 'partial'
  | 'failed'
  | 'missed'
  | 'asleep'
  | 'unknown'
  | 'waiting'
  | 'cancelled';

const KINDS: Record<RunKind, { noun: string; doing: string }> = {
  backup: { noun: 'Backup', doing: 'Backing up' },
  init: { noun: 'Initialise', doing: 'Initialising' },
  forget: { noun: 'Forget', doing: 'Forgetting snapshots of' },
  prune: { noun: 'Prune', doing: 'Pruning from' },
  check: { noun: 'Check', doing: 'Checking from' },
  unlock: { noun: 'Unlock', doing: 'Unlocking from' },
  restore: { noun: 'Restore', doing: 'Restoring on' },
  diff: { noun: 'Compare', doing: 'Comparing on' },
  stats: { noun: 'Read facts', doing: 'Reading facts from' },
  copy: { noun: 'Copy', doing: 'Copying from' },
  ls: { noun: 'List', doing: 'Listing from' },
  find: { noun: 'Find', doing: 'Searching from' },
  dump: { noun: 'Dump', doing: 'Dumping from' },
  unknown: { noun: 'Run', doing: 'Running on' },
};

const STATUSES: Record<RunStatus, { glyph: GlyphName; words: string }> = {
  queued: { glyph: 'waiting', words: 'waiting' },
  running: { glyph: 'running', words: 'running' },
  succeeded: { glyph: 'ok', words: 'succeeded' },
  partial: { glyph: 'partial', words: 'partial' },
  failed: { glyph: 'failed', words: 'failed' },
  interrupted: { glyph: 'failed', words: 'interrupted' },
  lost: { glyph: 'failed', words: 'lost' },
  expired: { glyph: 'missed', words: 'expired' },
  cancelled: { glyph: 'cancelled', words: 'cancelled' },
  unknown: { glyph: 'unknown', words: 'unknown' },
};

/** The kinds that the Activity list can be narrowed to. */
export const FILTER_KINDS: RunKind[] = [
  'backup',
  'init',
  'restore',
  'check',
  'forget',
  'prune',
  'unlock',
  'stats',
];

/** What the kind is called: `Backup`. A word from a newer agent becomes `Run`. */
export function kindNoun(kind: RunKind): string {
  return (KINDS[kind] ?? KINDS.unknown).noun;
}

/** The shape of a state. */
export function statusGlyph(status: RunStatus): GlyphName {
  return (STATUSES[status] ?? STATUSES.unknown).glyph;
}

/** A state in a word. */
export function statusWords(status: RunStatus): string {
  return (STATUSES[status] ?? STATUSES.unknown).words;
}

/** Whether a run ended without doing what it was asked for. */
export function didNotWork(status: RunStatus): boolean {
  return ['failed', 'interrupted', 'expired', 'lost', 'unknown'].includes(status);
}

/** What a run is called in lists: `Backup · docs`, `Forget · preview`. */
export function runTitle(run: Pick<Run, 'kind' | 'plan_name' | 'options'>): string {
  const parts = [kindNoun(run.kind)];
  if (run.plan_name) parts.push(run.plan_name);
  if (run.options.dry_run) parts.push('preview');
  if (run.options.read_data) parts.push('all data');
  return parts.join(' · ');
}

/** The first sentence of a run's page. */
export function runSentence(run: Run): string {
  const noun = run.options.dry_run ? `${kindNoun(run.kind)} preview` : kindNoun(run.kind);
  if (run.status === 'running')
    return `${(KINDS[run.kind] ?? KINDS.unknown).doing} ${run.host_name}`;
  if (run.status === 'queued') return `${noun} on ${run.host_name} is waiting`;
  const ends: Partial<Record<RunStatus, string>> = {
    partial: run.code?.startsWith('hook_') ? 'is done, but a hook failed' : 'ended with gaps',
    lost: 'is lost',
    interrupted: 'was interrupted',
    cancelled: 'was cancelled',
    unknown: 'ended in a way this version does not know',
  };
  return `${noun} on ${run.host_name} ${ends[run.status] ?? run.status}`;
}
