// The newest backup of each machine that left a snapshot. A machine tells its newest backup; where
// that one did not work, its older runs are asked, a few machines at a time, and once per run.
import { granted, type Client } from '$lib/api/client';
import type { Machine } from '$lib/api/types';
import { newest, ownLastGood, type LastGood } from '$lib/domain/machine';
import { hasSnapshot } from '$lib/domain/run';
import { parse } from '$lib/format/time';
import { untrack } from 'svelte';
import { SvelteMap } from 'svelte/reactivity';

const AT_ONCE = 4;
const PAGE = 200;

interface Asked {
  /** The newest backup when it was asked: a newer one asks again. */
  runId: string;
  answer: LastGood;
}

/** What is known of last good backups. */
export class LastGoodBackups {
  #asked = new SvelteMap<string, Asked>();
  #waiting: Machine[] = [];
  #going = 0;

  constructor(private readonly client: Client) {}

  /** The machine's last good backup; `undefined` until it is known. */
  of(machine: Machine): LastGood {
    const own = ownLastGood(machine);
    return own === undefined ? this.#asked.get(machine.id)?.answer : own;
  }

  /** Asks for those machines that do not tell it themselves. */
  follow(machines: Machine[]): void {
    untrack(() => this.#follow(machines));
  }

  #follow(machines: Machine[]): void {
    for (const machine of machines) {
      if (ownLastGood(machine) !== undefined) continue;
      const runId = newest(machine, 'backup')?.id ?? '';
      const asked = this.#asked.get(machine.id);
      if (asked?.runId === runId) continue;
      // The old answer stays while the new one is under way.
      this.#asked.set(machine.id, { runId, answer: asked?.answer });
      this.#waiting.push(machine);
    }
    this.#work();
  }

  #work(): void {
    while (this.#going < AT_ONCE && this.#waiting.length > 0) {
      const machine = this.#waiting.shift() as Machine;
      this.#going += 1;
      void this.#ask(machine).finally(() => {
        this.#going -= 1;
        this.#work();
      });
    }
  }

  async #ask(machine: Machine): Promise<void> {
    const runId = newest(machine, 'backup')?.id ?? '';
    try {
      const runs = await granted(
        this.client.GET('/api/hosts/{id}/runs', {
          params: { path: { id: machine.id }, query: { kind: 'backup', open: false, limit: PAGE } },
        }),
      );
      const good = runs.find((run) => hasSnapshot(run.status));
      const at = parse(good?.finished_at);
      const isPartial = good?.status === 'partial';
      const answer = good && at !== undefined ? { at, runId: good.id, isPartial } : null;
      this.#asked.set(machine.id, { runId, answer });
    } catch {
      // Unknown stays unknown; the next change of the machine asks again.
      this.#asked.delete(machine.id);
    }
  }
}
