// Short messages at the edge of the window. Errors stay until they are closed; others leave by
// themselves, but not while somebody is at them.
import { Problem } from '$lib/api/problem';
import { clean } from '$lib/format/text';

/** A message. */
export interface Toast {
  id: number;
  tone: 'plain' | 'good' | 'bad';
  title: string;
  body?: string;
  /** Where to read more. */
  link?: { words: string; href: string };
  /** The notice that it tells of. */
  notice?: string;
}

const STAY_MS = 5000;
const MOST = 3;

/** The window's messages. */
export class Toasts {
  /** Those that are shown, oldest first. */
  list = $state.raw<Toast[]>([]);
  #next = 1;
  #isHeld = false;
  #leaving = new Map<number, ReturnType<typeof setTimeout>>();

  /** Shows a message. The same one twice is shown once. */
  show(toast: Omit<Toast, 'id'>): void {
    const id = this.#next++;
    // They tell of machines and runs in words that came from machines.
    const title = clean(toast.title);
    const body = toast.body === undefined ? undefined : clean(toast.body);
    const others = this.list.filter((it) => it.title !== title || it.body !== body);
    this.list = [...others, { ...toast, title, body, id }].slice(-MOST);
    if (!this.#isHeld) this.#startLeaving();
  }

  /** Says whether somebody is at the messages: then none leaves, and after it each stays its time anew. */
  hold(isHeld: boolean): void {
    if (isHeld === this.#isHeld) return;
    this.#isHeld = isHeld;
    if (!isHeld) return this.#startLeaving();
    for (const timer of this.#leaving.values()) clearTimeout(timer);
    this.#leaving.clear();
  }

  #startLeaving(): void {
    for (const { id, tone } of this.list) {
      if (tone === 'bad' || this.#leaving.has(id)) continue;
      this.#leaving.set(
        id,
        setTimeout(() => this.close(id), STAY_MS),
      );
    }
  }

  /** Shows why something was not done. */
  fail(thrown: unknown): void {
    const problem = Problem.from(thrown);
    // The sign-in page is up and says it.
    if (problem.code === 'unauthenticated') return;
    const { runId, message: title, guidance: body } = problem;
    const link = runId ? { words: 'Open the run', href: `#/runs/${runId}` } : undefined;
    // That it is going already is news, and no fault.
    this.show({ tone: runId ? 'plain' : 'bad', title, body, link });
  }

  /** Takes those away that tell of a notice which is no longer open. */
  closeResolved(open: ReadonlySet<string>): void {
    if (this.list.every((it) => it.notice === undefined || open.has(it.notice))) return;
    this.list = this.list.filter((it) => it.notice === undefined || open.has(it.notice));
  }

  /** Takes a message away. */
  close(id: number): void {
    this.#leaving.delete(id);
    this.list = this.list.filter((it) => it.id !== id);
  }
}
