// Runs, newest first, a page at a time. The first page is live; older pages are read when asked for,
// and a run in them that changes is read again.
import { granted, type Client } from '$lib/api/client';
import type { EventHub } from '$lib/api/events';
import type { Problem } from '$lib/api/problem';
import type { Run, RunKind } from '$lib/api/types';
import { Live } from './live.svelte';

const PAGE = 100;

/** Which runs. */
export interface RunFilter {
  host_id?: string;
  kind?: RunKind;
  open?: boolean;
}

/** A list of runs. */
export class RunList {
  #older = $state.raw<Run[]>([]);
  #reachedEnd = $state(false);
  #first: Live<Run[]>;
  /** Whether an older page is under way. */
  isLoadingMore = $state(false);

  constructor(
    hub: EventHub,
    private readonly client: Client,
    private readonly filter: RunFilter,
  ) {
    this.#first = new Live<Run[]>(hub, {
      read: () => this.#page(),
      wants: (change) => change.topic === 'run',
      gapMs: 600,
    });
  }

  /** The runs that were read so far; nothing before the first reading. */
  get runs(): Run[] | undefined {
    const first = this.#first.data;
    if (!first || this.#older.length === 0) return first;
    // New runs push others out of the live page: those stay as they were read.
    const seen = new Set(first.map((run) => run.id));
    return [...first, ...this.#older.filter((run) => !seen.has(run.id))];
  }

  /** Why the runs could not be read. */
  get problem(): Problem | undefined {
    return this.#first.problem;
  }

  /** Whether there may be older ones. */
  get hasMore(): boolean {
    return !this.#reachedEnd && (this.#first.data?.length ?? 0) >= PAGE;
  }

  /** Keeps the newest fresh until the returned function is called. */
  start(): () => void {
    return this.#first.start();
  }

  /** Reads the next older page; throws the problem when that is refused. */
  async more(): Promise<void> {
    const last = this.runs?.at(-1);
    if (!last || this.isLoadingMore) return;
    this.isLoadingMore = true;
    try {
      const first = this.#first.data ?? [];
      const page = await this.#page(last.id);
      this.#older = [...(this.#older.length > 0 ? this.#older : first), ...page];
      this.#reachedEnd = page.length < PAGE;
    } finally {
      this.isLoadingMore = false;
    }
  }

  #page(before?: string): Promise<Run[]> {
    const query = { ...this.filter, before, limit: PAGE };
    return granted(this.client.GET('/api/runs', { params: { query } }));
  }
}
