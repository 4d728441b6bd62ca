// What a forget that only looked says: which snapshots would go, joined with what is known of them. Pure.
import type { Run, Snapshot } from '$lib/api/types';
import { plural } from '$lib/format/number';
import { stat } from './run-facts';

/** A snapshot that would go; `snapshot` is absent where the list was not read since it was taken. */
export interface Goes {
  id: string;
  snapshot: Snapshot | undefined;
}

/** The snapshots that would go, newest first; those that nobody knows more of come last. */
export function wouldGo(run: Pick<Run, 'stats'>, known: Snapshot[]): Goes[] {
  const stats = run.stats as Record<string, unknown> | null | undefined;
  const ids = Array.isArray(stats?.['removed']) ? (stats['removed'] as unknown[]) : [];
  const byId = new Map(known.map((snapshot) => [snapshot.id, snapshot]));
  return ids
    .filter((id): id is string => typeof id === 'string')
    .map((id) => ({ id, snapshot: byId.get(id) }))
    .sort((a, b) => (b.snapshot?.time ?? '').localeCompare(a.snapshot?.time ?? ''));
}

/** How many would go; `undefined` when the run does not tell. */
export function wouldGoCount(run: Pick<Run, 'stats'>): number | undefined {
  return stat(run, 'removed_count');
}

/** The sum in a sentence or two: `3 snapshots would go, 39 would stay.` */
export function sum(run: Pick<Run, 'stats'>): string {
  const goes = wouldGoCount(run) ?? 0;
  const stays = stat(run, 'kept_count') ?? 0;
  const suspects = stat(run, 'suspect_count') ?? 0;
  const aside = suspects > 0 ? ` ${plural(suspects, 'suspect one')} would stay too.` : '';
  if (goes === 0) return `Nothing would go; ${plural(stays, 'snapshot')} would stay.${aside}`;
  return `${plural(goes, 'snapshot')} would go, ${stays} would stay.${aside}`;
}
