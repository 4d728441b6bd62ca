/** What may be done with a repository. */

import type { Repository } from '$lib/api/types';

/** Whether forget and prune are possible: by its machines, or in the store by this computer. */
export function mayDelete(repository: Repository): boolean {
  return !repository.append_only || Boolean(repository.store_host_id);
}
