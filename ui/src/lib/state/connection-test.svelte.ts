// Asking a repository's server what is at a place, before anything is saved.
import { granted, type Client } from '$lib/api/client';
import { Problem } from '$lib/api/problem';
import type { RepositoryTestView } from '$lib/api/types';
import type { FormErrors } from './form-errors.svelte';

/** What is typed of a place. */
interface Place {
  url: string;
  username: string;
  credential: string;
  caPem: string;
}

/** One place's test: what was found last, or why nothing was. */
export class ConnectionTest {
  isBusy = $state(false);
  found = $state.raw<RepositoryTestView>();
  problem = $state.raw<Problem>();

  /** @param prefix Stands before the server's field names; see {@link FormErrors.take}. */
  constructor(
    private readonly client: Client,
    private readonly errors: FormErrors,
    private readonly prefix = '',
  ) {}

  /** Asks. A refusal that has a field goes there. */
  async ask(place: Place): Promise<void> {
    this.clear();
    this.errors.clear();
    this.isBusy = true;
    const body = {
      url: place.url.trim(),
      username: place.username.trim() || null,
      credential: place.credential || null,
      ca_pem: place.caPem.trim() || null,
    };
    try {
      this.found = await granted(this.client.POST('/api/repositories/test', { body }));
    } catch (thrown) {
      const problem = Problem.from(thrown);
      if (problem.field) this.errors.take(problem, this.prefix);
      else this.problem = problem;
    } finally {
      this.isBusy = false;
    }
  }

  /** Forgets what was found. */
  clear(): void {
    this.found = undefined;
    this.problem = undefined;
  }
}
