/** Where a repository is, and what may be done with it. */

import type { Repository } from '$lib/api/types';

/** What the place of the manager's own repositories is called: their location says nothing to a person. */
export const STORE_WORDS = 'the store on this computer';

/** Whether it is in the store on this computer. */
export function isStored(repository: Repository | undefined): boolean {
  return Boolean(repository?.store_host_id);
}

/** Whether forget and prune are possible: by its machines, or in the store by this computer. */
export function mayDelete(repository: Repository): boolean {
  return !repository.append_only || isStored(repository);
}
