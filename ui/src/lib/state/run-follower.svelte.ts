// Follows one run: its state, progress and log, from wherever it is to its end. It may have ended
// long before, the connection may break at any line: no line is lost, and none comes twice.
import { Problem } from '$lib/api/problem';
import { Refused, type StreamEvent, type Transport } from '$lib/api/transport';
import type { LogLine, Progress, Run } from '$lib/api/types';

const RETRY_FIRST_MS = 300;
const RETRY_MOST_MS = 10_000;
/** Lines that arrive faster than a person sees are shown together. */
const FLUSH_MS = 60;

/** How the connection stands. */
export type FollowState = 'connecting' | 'following' | 'lost' | 'ended';

/** A followed run. */
export class RunFollower {
  /** The run as last told. */
  run = $state.raw<Run>();
  /** The newest progress, while it is running. */
  progress = $state.raw<Progress>();
  /** How the connection stands. */
  state = $state<FollowState>('connecting');
  /** Why the run cannot be followed at all. */
  problem = $state.raw<Problem>();
  /** Number of lines; moves when {@link lines} has grown. */
  count = $state(0);
  /** All lines so far. Not reactive itself, since it may be long: read `count` first. */
  readonly lines: LogLine[] = [];

  #lastLine = 0;
  #isOver = false;
  #flush: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly transport: Transport,
    readonly id: string,
  ) {}

  /** Follows until the end, or until the returned function is called. */
  start(): () => void {
    const stop = new AbortController();
    void this.#follow(stop.signal);
    return () => {
      stop.abort();
      clearTimeout(this.#flush);
    };
  }

  async #follow(signal: AbortSignal): Promise<void> {
    let pause = RETRY_FIRST_MS;
    while (!signal.aborted && !this.#isOver) {
      try {
        const path = `/api/runs/${this.id}/stream?after_line=${this.#lastLine}`;
        await this.transport.stream(
          path,
          (event) => {
            if (signal.aborted) return;
            if (event.event !== 'open') pause = RETRY_FIRST_MS;
            this.#take(event);
          },
          signal,
        );
      } catch (thrown) {
        if (signal.aborted) return;
        if (thrown instanceof Refused) {
          const problem = Problem.of(thrown.answer);
          if (problem.code === 'not_found') {
            this.problem = problem;
            return;
          }
        }
      }
      if (signal.aborted || this.#isOver) return;
      this.state = 'lost';
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, RETRY_MOST_MS);
    }
  }

  #take({ event, data }: StreamEvent): void {
    if (event === 'open') {
      this.state = 'following';
    } else if (event === 'line') {
      this.#takeLines((JSON.parse(data) as { lines: LogLine[] }).lines);
    } else if (event === 'progress') {
      this.progress = JSON.parse(data) as Progress;
    } else if (event === 'state') {
      const run = JSON.parse(data) as Run;
      this.run = run;
      this.progress = run.is_terminal ? undefined : (run.progress ?? this.progress);
    } else if (event === 'end') {
      this.#isOver = true;
      this.progress = undefined;
      this.#show();
      this.state = 'ended';
    }
  }

  /** A line that was told before the connection broke may be told again after it. */
  #takeLines(lines: LogLine[]): void {
    for (const line of lines) {
      if (line.seq <= this.#lastLine) continue;
      this.lines.push(line);
      this.#lastLine = line.seq;
    }
    this.#flush ??= setTimeout(() => this.#show(), FLUSH_MS);
  }

  #show(): void {
    clearTimeout(this.#flush);
    this.#flush = undefined;
    this.count = this.lines.length;
  }
}
