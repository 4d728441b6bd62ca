// A thing of the server that keeps itself fresh. It subscribes first and reads then, so nothing that
// happens in between is missed; it reads again on each change that concerns it, and after a gap.
import type { Change, EventHub } from '$lib/api/events';
import { Problem } from '$lib/api/problem';

/** What a {@link Live} needs to know. */
export interface LiveOptions<T> {
  /** Reads the thing. */
  read: () => Promise<T>;
  /** Whether a change concerns it. A gap always does. */
  wants: (change: Exclude<Change, { topic: 'resync' }>) => boolean;
  /** Bursts of changes cause one reading in so many milliseconds. */
  gapMs?: number;
}

/**
 * How long to wait for the subscription before reading anyway. A server may say nothing on a stream
 * before the first event; whenever it opens, all is read again, so nothing can be missed.
 */
const OPEN_WITHIN_MS = 150;
const SETTLE_MS = 40;
const RETRY_MS = 4000;

/** A live thing. Reading `data` in a component makes the component follow it. */
export class Live<T> {
  /** The newest reading; kept while the next one is under way, and when that fails. */
  data = $state.raw<T>();
  /** Why the last reading failed. */
  problem = $state.raw<Problem>();
  /** Whether there has been no reading yet. */
  isLoading = $derived(this.data === undefined && this.problem === undefined);

  #users = 0;
  #stop: (() => void) | undefined;
  #isReading = false;
  #reading: Promise<void> = Promise.resolve();
  #isDirty = false;
  #hasBegun = false;
  #lastStart = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly hub: EventHub,
    private readonly options: LiveOptions<T>,
  ) {}

  /** Keeps the thing fresh until the returned function is called. */
  start(): () => void {
    this.#users += 1;
    if (this.#users === 1) this.#begin();
    let isDone = false;
    return () => {
      if (isDone) return;
      isDone = true;
      this.#users -= 1;
      if (this.#users === 0) this.#end();
    };
  }

  /** Reads again soon, whatever happened. */
  refresh(): void {
    this.#isDirty = true;
    this.#schedule();
  }

  /** Reads again at once, and waits for it: for what was just changed here. */
  async reload(): Promise<void> {
    if (!this.#hasBegun) return;
    if (this.#isReading) {
      // The reading under way may have begun before the change.
      this.#isDirty = true;
      await this.#reading;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#read();
  }

  /** Takes a value that an answer just told, without waiting for the event. */
  set(value: T): void {
    this.data = value;
    this.problem = undefined;
  }

  #begin(): void {
    this.#stop = this.hub.subscribe((change) => {
      // The first reading is still to come and will see it.
      if (!this.#hasBegun) return;
      if (change.topic === 'resync' || this.options.wants(change)) this.refresh();
    });
    const patience = new Promise<void>((resolve) => setTimeout(resolve, OPEN_WITHIN_MS));
    void Promise.race([this.hub.opened, patience]).then(() => {
      if (this.#users === 0) return;
      this.#hasBegun = true;
      void this.#read();
    });
  }

  #end(): void {
    this.#stop?.();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#hasBegun = false;
    this.#isDirty = false;
  }

  #schedule(afterMs = SETTLE_MS): void {
    if (!this.#hasBegun || this.#isReading || this.#timer !== undefined) return;
    const next = this.#lastStart + (this.options.gapMs ?? 300);
    const wait = Math.max(afterMs, next - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#read();
    }, wait);
  }

  #read(): Promise<void> {
    if (!this.#isReading) this.#reading = this.#readOnce();
    return this.#reading;
  }

  async #readOnce(): Promise<void> {
    this.#isReading = true;
    this.#isDirty = false;
    this.#lastStart = performance.now();
    let retry = SETTLE_MS;
    try {
      const data = await this.options.read();
      if (this.#users > 0) this.set(data);
    } catch (thrown) {
      this.problem = Problem.from(thrown);
      // Nobody will tell that the network is back when the stream never broke.
      if (this.problem.code === 'unreachable' || this.problem.code === 'internal') {
        this.#isDirty = true;
        retry = RETRY_MS;
      }
    }
    this.#isReading = false;
    if (this.#isDirty && this.#users > 0) this.#schedule(retry);
  }
}
