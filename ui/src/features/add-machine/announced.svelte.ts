// What is decided about a machine that asks to join: its name, its plan, and whether it may.
import { granted } from '$lib/api/client';
import type { Announcement } from '$lib/api/types';
import type { App } from '$lib/state/app.svelte';
import { FormErrors } from '$lib/state/form-errors.svelte';
import { go } from '$lib/state/route.svelte';

/** The decision about one machine. */
export class Announced {
  name = $state('');
  planId = $state('');
  busy = $state<'approve' | 'refuse'>();
  readonly errors = new FormErrors(['name', 'plan_id'], (field) =>
    field === 'name' ? this.name : this.planId,
  );

  constructor(
    private readonly app: App,
    /** The machine as it was when the page opened: its code is the one that a person compares. */
    readonly announcement: Announcement,
  ) {
    this.name = announcement.hostname;
  }

  /** Lets the machine in, and goes to it. */
  async approve(): Promise<void> {
    this.errors.clear();
    if (this.name.trim() === '') {
      this.errors.set('name', 'Say what the machine is called.');
      return;
    }
    const { id, code } = this.announcement;
    const body = { code, name: this.name.trim(), plan_id: this.planId || null };
    await this.#decide('approve', async () => {
      const params = { path: { id } };
      const call = this.app.client.POST('/api/announcements/{id}/approve', { params, body });
      const { host_id } = await granted(call);
      await this.app.fleet.machines.reload();
      go(`#/machines/${host_id}`);
    });
  }

  /** Sends the machine away. */
  async refuse(): Promise<void> {
    this.errors.clear();
    await this.#decide('refuse', async () => {
      const params = { path: { id: this.announcement.id } };
      await granted(this.app.client.POST('/api/announcements/{id}/refuse', { params }));
      go('#/');
    });
  }

  async #decide(what: 'approve' | 'refuse', act: () => Promise<void>): Promise<void> {
    this.busy = what;
    try {
      await act();
    } catch (thrown) {
      this.errors.take(thrown);
    } finally {
      this.busy = undefined;
    }
  }
}
