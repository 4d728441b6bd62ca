// What a forget or a prune does, said before it is confirmed and after it was done. Pure.
import type { Run } from '$lib/api/types';
import { plural } from '$lib/format/number';
import { stat } from './run-facts';
import { wouldGoCount } from './would-go';

/**
 * What a forget does.
 * @param preview The run that only looked; it may not tell how many.
 * @param inStore Whether the repository is in the store on this computer, which has a trash.
 */
export function forgetConsequence(
  preview: Pick<Run, 'stats'> | undefined,
  inStore: boolean,
): string {
  const what =
    countWords(preview) ??
    "The plan's retention decides which snapshots of this plan and machine go; the preview shows them.";
  const back = inStore
    ? 'What goes can be brought back for seven days, on the page of the store.'
    : 'That cannot be undone here.';
  return `${what} ${back} The data stays in the repository until a prune.`;
}

/** How many go and stay; `undefined` where nobody told. */
function countWords(preview: Pick<Run, 'stats'> | undefined): string | undefined {
  const goes = preview && wouldGoCount(preview);
  if (preview === undefined || goes === undefined) return undefined;
  const stays = (stat(preview, 'kept_count') ?? 0) + (stat(preview, 'suspect_count') ?? 0);
  const [go, stay] = [goes === 1 ? 'goes' : 'go', stays === 1 ? 'stays' : 'stay'];
  return `By the preview ${plural(goes, 'snapshot')} of this plan and machine ${go}, and ${stays} ${stay}.`;
}

/** What a prune does. */
export function pruneConsequence(inStore: boolean): string {
  if (!inStore)
    return 'Data that no snapshot needs is deleted from the repository. Snapshots stay.';
  return (
    'All data is verified before anything is deleted, which may take hours. ' +
    'Then data that no snapshot needs goes into the trash of the store, where it can be brought back for seven days. ' +
    'Its room on the disk becomes free only after that. Snapshots stay.'
  );
}

/** Whether a prune has put something into the trash of the store; a figure that is missing may be anything. */
export function hasPruned(run: Run): boolean {
  if (run.kind !== 'prune' || run.status !== 'succeeded' || run.options.dry_run) return false;
  const stats = run.stats as { total_removed?: { bytes?: number } | null } | null | undefined;
  return stats?.total_removed?.bytes !== 0;
}
