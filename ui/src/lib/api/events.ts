// What changed, told to whoever asked to hear of it. One subscription to the server serves the whole
// window; when it breaks, or a revision is missing, everyone is told to read again.
import { deferred } from '../deferred';
import { Problem } from './problem';
import { Refused, type StreamEvent, type Transport } from './transport';

/** What an event is about. */
export type Topic =
  | 'host'
  | 'run'
  | 'plan'
  | 'repository'
  | 'notices'
  | 'enrolments'
  | 'announcements'
  | 'alarms'
  | 'store';

/** Something changed: one thing, or, after a gap, possibly everything. */
export type Change = { topic: Topic; id?: string; revision: number } | { topic: 'resync' };

/** How the subscription stands. */
export type HubState = 'connecting' | 'open' | 'lost';

type Listener = (change: Change) => void;

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 15_000;

/** The window's subscription to the server. */
export class EventHub {
  #listeners = new Set<Listener>();
  #revision: number | undefined;
  #stop: AbortController | undefined;
  #opened = deferred<undefined>();

  constructor(
    private readonly transport: Transport,
    private readonly onState: (state: HubState) => void = () => {},
    private readonly onRefused: (problem: Problem) => void = () => {},
  ) {}

  /** Resolves once nothing can be missed any more. Whoever reads before it may read too early. */
  get opened(): Promise<unknown> {
    return this.#opened.promise;
  }

  /** Hears of every change until the returned function is called. */
  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Begins to listen, and comes back for as long as it takes. */
  start(): void {
    if (this.#stop) return;
    this.#stop = new AbortController();
    void this.#run(this.#stop.signal);
  }

  /** Stops listening; `start` begins anew. */
  stop(): void {
    this.#stop?.abort();
    this.#stop = undefined;
    this.#opened = deferred<undefined>();
  }

  async #run(signal: AbortSignal): Promise<void> {
    let pause = RETRY_FIRST_MS;
    while (!signal.aborted) {
      try {
        await this.transport.stream(
          '/api/events',
          (event) => {
            if (event.event === 'open') pause = RETRY_FIRST_MS;
            this.#take(event);
          },
          signal,
        );
      } catch (thrown) {
        if (signal.aborted) return;
        if (thrown instanceof Refused) {
          const problem = Problem.of(thrown.answer);
          this.onRefused(problem);
          if (problem.code === 'unauthenticated') return this.stop();
        }
      }
      if (signal.aborted) return;
      this.onState('lost');
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, RETRY_MOST_MS);
    }
  }

  #take(event: StreamEvent): void {
    if (event.event === 'open') {
      this.onState('open');
      // The first subscribers read after this; those who read before it read again.
      this.#revision = undefined;
      this.#opened.resolve(undefined);
      this.#tell({ topic: 'resync' });
    } else if (event.event === 'resync') {
      this.#revision = undefined;
      this.#tell({ topic: 'resync' });
    } else if (event.event === 'change') {
      const change = JSON.parse(event.data) as { topic: Topic; id?: string; revision: number };
      const expected = this.#revision === undefined ? change.revision : this.#revision + 1;
      this.#revision = change.revision;
      this.#tell(change.revision === expected ? change : { topic: 'resync' });
    }
  }

  #tell(change: Change): void {
    for (const listener of [...this.#listeners]) listener(change);
  }
}
