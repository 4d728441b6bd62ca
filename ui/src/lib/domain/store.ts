// What the figures of the store are, out of what the server tells of it. Pure.
import type { Store, StoredRepository } from '$lib/api/types';

/** From here on something is nearly full. */
const NEARLY = 0.95;

/** The figures. */
export interface StoreFigures {
  /** The repositories of machines of the fleet. */
  machines: StoredRepository[];
  /** Those of machines that were removed. */
  left: StoredRepository[];
  /** Bytes in all of them. */
  used: number;
  /** Bytes that were deleted and can be brought back. */
  deleted: number;
  /** How full the disk is. */
  filled: number | undefined;
  /** Machines that have nearly what they may have. */
  full: StoredRepository[];
}

/** Whether such a share is nearly all. */
export const isNearly = (share: number) => share >= NEARLY;

/** The figures of the store. */
export function storeFigures(store: Store): StoreFigures {
  const { repositories, total_bytes: total, free_bytes: free } = store;
  const machines = repositories.filter((it) => !it.has_left);
  const deletions = repositories.flatMap((it) => it.deletions);
  return {
    machines,
    left: repositories.filter((it) => it.has_left),
    used: repositories.reduce((sum, it) => sum + (it.used_bytes ?? 0), 0),
    deleted: deletions.reduce((sum, it) => sum + it.bytes, 0),
    filled: total && typeof free === 'number' ? 1 - free / total : undefined,
    full: machines.filter(
      (it) => it.quota_bytes && isNearly((it.used_bytes ?? 0) / it.quota_bytes),
    ),
  };
}
