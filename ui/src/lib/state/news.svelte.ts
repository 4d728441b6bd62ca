// What happened elsewhere and deserves a word now: a run that ended badly, a new notice.
import { granted, type Client } from '$lib/api/client';
import type { Change, EventHub } from '$lib/api/events';
import type { Notice, Run } from '$lib/api/types';
import { didNotWork, runSentence } from '$lib/domain/run';
import { plural } from '$lib/format/number';
import { clean, sentence } from '$lib/format/text';
import type { Router } from './route.svelte';
import type { Toasts } from './toasts.svelte';

const COLLECT_MS = 700;
/** More than this at once is told as one. */
const SINGLY = 3;

/** Watches events for what deserves a message. */
export class News {
  #pending = new Set<string>();
  #told = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #notices: Set<string> | undefined;

  constructor(
    private readonly hub: EventHub,
    private readonly client: Client,
    private readonly router: Router,
    private readonly toasts: Toasts,
  ) {}

  /** Watches until the returned function is called. */
  start(): () => void {
    const stop = this.hub.subscribe((change) => this.#hear(change));
    return () => {
      stop();
      clearTimeout(this.#timer);
    };
  }

  /** Tells of notices that were not there before, and no longer of those that are resolved. */
  seeNotices(notices: Notice[] | undefined): void {
    if (!notices) return;
    const before = this.#notices;
    this.#notices = new Set(notices.map((notice) => notice.id));
    this.toasts.closeResolved(this.#notices);
    if (!before) return;
    for (const notice of notices.filter((it) => !before.has(it.id)).slice(0, SINGLY)) {
      const link = notice.host_id
        ? { words: 'Open the machine', href: `#/machines/${notice.host_id}` }
        : undefined;
      const body = notice.guidance ?? undefined;
      this.toasts.show({ tone: 'bad', title: notice.message, body, link, notice: notice.id });
    }
  }

  #hear(change: Change): void {
    if (change.topic !== 'run' || !change.id || this.#told.has(change.id)) return;
    this.#pending.add(change.id);
    this.#timer ??= setTimeout(() => void this.#look(), COLLECT_MS);
  }

  async #look(): Promise<void> {
    this.#timer = undefined;
    const ids = [...this.#pending].slice(0, 50);
    this.#pending.clear();
    const query = { open: false, limit: 100 };
    try {
      const runs = await granted(this.client.GET('/api/runs', { params: { query } }));
      this.#tell(runs.filter((run) => ids.includes(run.id) && run.is_terminal));
    } catch {
      // The lists will show it; a message is only a courtesy.
    }
  }

  #tell(ended: Run[]): void {
    for (const run of ended) this.#told.add(run.id);
    const { route } = this.router;
    const open = route.view === 'run' ? route.id : undefined;
    const bad = ended.filter((run) => didNotWork(run.status) && run.id !== open);
    if (bad.length > SINGLY) {
      const title = `${plural(bad.length, 'run')} did not work`;
      const link = { words: 'Open the activity', href: '#/activity' };
      this.toasts.show({ tone: 'bad', title, link });
      return;
    }
    for (const run of bad) {
      const link = { words: 'Open the run', href: `#/runs/${run.id}` };
      this.toasts.show({
        tone: 'bad',
        title: runSentence(run),
        body: run.error ? sentence(clean(run.error)) : undefined,
        link,
      });
    }
  }
}
