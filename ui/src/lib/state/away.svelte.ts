// What happened while nobody looked. A look lasts from when the window is shown until it is hidden; what
// came in between two looks is told at the beginning of the second.
import { granted, type Client } from '$lib/api/client';
import type { EventHub } from '$lib/api/events';
import type { Transport } from '$lib/api/transport';
import type { Away as Report, SeenForm } from '$lib/api/types';
import { joined } from '$lib/domain/slots';
import { parse } from '$lib/format/time';
import { Live } from './live.svelte';

/** Who was gone for less than this has not been away. */
const AWAY_AFTER_MS = 15 * 60_000;
/** How often a look that goes on is noted: whatever ends it, no more than this is told twice. */
const NOTE_EVERY_MS = 60_000;

/** The report, and when it has been read. */
export class Away {
  readonly #live: Live<Report>;
  /** What was told in this look, each from where the one before ended: what is noted stays told. */
  #told: Report[] = [];
  #isRead = $state(false);
  #hiddenAt: number | undefined;

  constructor(
    hub: EventHub,
    client: Client,
    private readonly transport: Transport,
  ) {
    this.#live = new Live<Report>(hub, {
      read: async () => this.#take(await granted(client.GET('/api/away'))),
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
    const timer = setInterval(() => {
      if (document.visibilityState === 'visible') void this.#note();
    }, NOTE_EVERY_MS);
    const onVisibility = () =>
      document.visibilityState === 'hidden' ? this.#leave() : this.#comeBack();
    const onHide = () => this.#leave();
    const onShow = () => this.#comeBack();
    document.addEventListener('visibilitychange', onVisibility);
    window.addEventListener('pagehide', onHide);
    window.addEventListener('pageshow', onShow);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', onVisibility);
      window.removeEventListener('pagehide', onHide);
      window.removeEventListener('pageshow', onShow);
      stop();
    };
  }

  #leave(): void {
    if (this.#hiddenAt !== undefined) return;
    this.#hiddenAt = Date.now();
    void this.#note();
  }

  #comeBack(): void {
    if (this.#hiddenAt === undefined) return;
    const gone = Date.now() - this.#hiddenAt;
    this.#hiddenAt = undefined;
    this.#isRead = gone < AWAY_AFTER_MS;
    if (this.#isRead) return;
    this.#told = [];
    this.#live.refresh();
  }

  /** Puts what was read to what was told before in this look. */
  #take(report: Report): Report {
    const last = this.#told.at(-1);
    const since = parse(report.since) ?? -Infinity;
    if (!last || since <= (parse(last.since) ?? -Infinity))
      this.#told = [...this.#told.slice(0, -1), report];
    else if (since >= (parse(last.until) ?? -Infinity)) this.#told = [...this.#told, report];
    // Else another window noted a part of it: this one tells on from its own end, once that is noted.
    return this.#told.reduce(joined);
  }

  /**
   * What was read is seen up to when it was told; who has read it looks on, and sees what comes. The page
   * may be about to go, and the typed client would first read its own request.
   */
  async #note(): Promise<void> {
    if (!this.#live.data) return;
    const body: SeenForm = { until: this.#isRead ? null : this.#live.data.until };
    try {
      await this.transport.request('POST', '/api/away/seen', JSON.stringify(body), true);
    } catch {
      // Then the same is told once more at the next look.
    }
  }
}
