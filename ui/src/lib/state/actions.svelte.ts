// What a person can ask for from several screens, each with its answer as a message.
import { granted, type Client } from '$lib/api/client';
import { Problem } from '$lib/api/problem';
import type { Machine, Run, StartRunForm } from '$lib/api/types';
import { runTitle } from '$lib/domain/run';
import { SvelteSet } from 'svelte/reactivity';
import type { Fleet } from './fleet.svelte';
import { go } from './route.svelte';
import type { Toasts } from './toasts.svelte';

/** The words of the one action that a machine's row offers. */
export const ACTION_WORDS = {
  initialise: 'Initialise',
  run_now: 'Run now',
  retry: 'Retry',
  view: 'View',
} as const;

/** The acts. */
export class Actions {
  /** Machines whose action is being asked for right now. */
  readonly busy = new SvelteSet<string>();

  constructor(
    private readonly client: Client,
    private readonly fleet: Fleet,
    private readonly toasts: Toasts,
  ) {}

  /** Asks for a run. Throws the problem when it is refused. */
  async start(machineId: string, body: StartRunForm): Promise<Run> {
    const params = { path: { id: machineId } };
    const run = await granted(this.client.POST('/api/hosts/{id}/runs', { params, body }));
    // The row shows it before it can be pressed again.
    await Promise.all([this.fleet.machines.reload(), this.fleet.openRuns.reload()]);
    return run;
  }

  /** Asks for a run and tells how that went. The run, or nothing when it was refused. */
  async startAndTell(
    machine: Machine,
    body: StartRunForm,
    tell: 'always' | 'if-it-waits' = 'always',
  ): Promise<Run | undefined> {
    try {
      const run = await this.start(machine.id, body);
      if (tell === 'if-it-waits' && machine.is_online) return run;
      const title = `${runTitle(run)} on ${machine.name} ${machine.is_online ? 'begins' : 'waits for the machine'}`;
      this.toasts.show({
        tone: 'plain',
        title,
        link: { words: 'View', href: `#/runs/${run.id}` },
      });
      return run;
    } catch (thrown) {
      this.toasts.fail(thrown);
      return undefined;
    }
  }

  /**
   * Does what the machine's row offers: asks for its run, or opens the one that is going. The run
   * that was asked for, if it was granted.
   * @param tell Whether a run that simply begins is told: where its row is in sight, the row does.
   */
  async doNext(
    machine: Machine,
    tell: 'always' | 'if-it-waits' = 'if-it-waits',
  ): Promise<Run | undefined> {
    const next = machine.next_action;
    if (!next || this.busy.has(machine.id)) return undefined;
    if (next.action === 'view') {
      if (next.run_id) go(`#/runs/${next.run_id}`);
      return undefined;
    }
    const form = nextForm(machine);
    if (!form) return undefined;
    this.busy.add(machine.id);
    try {
      return await this.startAndTell(machine, form, tell);
    } finally {
      this.busy.delete(machine.id);
    }
  }

  /** Asks a run to end. */
  async cancel(run: Run): Promise<void> {
    try {
      await granted(
        this.client.POST('/api/runs/{id}/cancel', { params: { path: { id: run.id } } }),
      );
    } catch (thrown) {
      this.toasts.fail(thrown);
    }
  }

  /** Puts a notice away. */
  async putAway(noticeId: string): Promise<void> {
    try {
      const params = { path: { id: noticeId } };
      await granted(this.client.POST('/api/notices/{id}/resolve', { params }));
      this.fleet.notices.refresh();
    } catch (thrown) {
      if (Problem.from(thrown).code === 'not_found') this.fleet.notices.refresh();
      else this.toasts.fail(thrown);
    }
  }
}

/** The run that a machine's action asks for; nothing for `view`. */
export function nextForm(machine: Machine): StartRunForm | undefined {
  const next = machine.next_action;
  if (next?.kind === 'init' && next.repository_id) {
    return { kind: 'init', repository_id: next.repository_id };
  }
  if (next?.kind === 'backup' && next.plan_id) return { kind: 'backup', plan_id: next.plan_id };
  return undefined;
}
