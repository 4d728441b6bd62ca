// Figures out of a run. restic's summary has no fixed form here, so each field is checked.
import type { Run } from '$lib/api/types';
import { parse, span } from '$lib/format/time';

/** A number out of restic's summary. */
export function stat(run: Pick<Run, 'stats'>, ...names: string[]): number | undefined {
  const stats: unknown = run.stats;
  if (typeof stats !== 'object' || stats === null) return undefined;
  for (const name of names) {
    const value = (stats as Record<string, unknown>)[name];
    if (typeof value === 'number') return value;
  }
  return undefined;
}

/** Bytes that a backup added to the repository. */
export function runAdded(run: Run): number | undefined {
  return run.kind === 'backup' ? stat(run, 'data_added_packed', 'data_added') : undefined;
}

/** How long a run took, or has been going. */
export function runTook(run: Run, now: number): string {
  const began = parse(run.started_at);
  if (began === undefined) return run.is_terminal ? 'never began' : '—';
  return span((parse(run.finished_at) ?? now) - began);
}
