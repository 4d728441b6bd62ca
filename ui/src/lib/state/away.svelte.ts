// What happened while nobody looked. A look lasts from when the window is shown until it is hidden; what
// came in between two looks is told at the beginning of the second.
import { granted, type Client } from '$lib/api/client';
import type { EventHub } from '$lib/api/events';
import type { Away as Report } from '$lib/api/types';
import { parse } from '$lib/format/time';
import { Live } from './live.svelte';

/** Who was gone for less than this has not been away. */
const AWAY_AFTER_MS = 15 * 60_000;

/** The report, and when it has been read. */
export class Away {
  readonly #live: Live<Report>;
  #isRead = $state(false);
  #hiddenAt: number | undefined;

  constructor(
    hub: EventHub,
    private readonly client: Client,
  ) {
    this.#live = new Live<Report>(hub, {
      read: () => granted(client.GET('/api/away')),
      // Machines bring what they have to tell in the first minutes.
      wants: (change) => !this.#isRead && (change.topic === 'run' || change.topic === 'host'),
      gapMs: 3000,
    });
  }

  /** What happened since the last look, until it was read. */
  get report(): Report | undefined {
    const report = this.#isRead ? undefined : this.#live.data;
    const since = parse(report?.since) ?? Infinity;
    return Date.now() - since < AWAY_AFTER_MS ? undefined : report;
  }

  /** It was read. */
  seen(): void {
    void this.#note();
    this.#isRead = true;
  }

  /** Follows the window until the returned function is called. Call it inside an effect. */
  start(): () => void {
    const stop = this.#live.start();
    const onVisibility = () => {
      if (document.visibilityState === 'hidden') {
        this.#hiddenAt = Date.now();
        if (this.#live.data) void this.#note();
        return;
      }
      const gone = this.#hiddenAt === undefined ? 0 : Date.now() - this.#hiddenAt;
      this.#isRead = gone < AWAY_AFTER_MS;
      if (!this.#isRead) this.#live.refresh();
    };
    document.addEventListener('visibilitychange', onVisibility);
    return () => {
      document.removeEventListener('visibilitychange', onVisibility);
      stop();
    };
  }

  /** What was read is seen up to when it was told; who has read it looks on, and sees what comes. */
  async #note(): Promise<void> {
    const body = { until: this.#isRead ? null : (this.#live.data?.until ?? null) };
    try {
      await granted(this.client.POST('/api/away/seen', { body }));
    } catch {
      // Then the same is told once more at the next look.
    }
  }
}
