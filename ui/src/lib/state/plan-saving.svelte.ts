// The saving of a plan's form: what cannot be read and what is refused goes to its field, and a plan
// that somebody else changed meanwhile loses neither their change nor what is typed here.
import { granted } from '$lib/api/client';
import { Problem } from '$lib/api/problem';
import type { CreatePlanForm, Plan } from '$lib/api/types';
import type { App } from './app.svelte';
import { FormErrors } from './form-errors.svelte';
import { PLAN_FIELDS, type Meanwhile, type PlanDraft, type PlanFields } from './plan-draft.svelte';

/** What a form sends beside the fields that all have. */
export type More = Partial<Pick<CreatePlanForm, 'repository_id' | 'host_ids' | 'host_tags'>>;

/** The saving of one form. */
export class PlanSaving {
  readonly errors: FormErrors;
  isBusy = $state(false);
  /** What somebody else changed since the form was opened. */
  meanwhile = $state.raw<Meanwhile>();

  constructor(
    private readonly app: App,
    private readonly draft: () => PlanDraft,
    known: readonly string[] = [],
  ) {
    const all = [...PLAN_FIELDS, ...known];
    this.errors = new FormErrors(all, (field) => this.draft().typed(field));
  }

  /** Whether something is typed that is not saved. */
  get isChanged(): boolean {
    return this.draft().isChanged;
  }

  /** Forgets what was said of what was typed before. */
  clear(): void {
    this.errors.clear();
    this.meanwhile = undefined;
  }

  /** What is typed, if all of it can be read and nothing else is missing. */
  read(missing: readonly (readonly [field: string, message: string])[] = []) {
    this.clear();
    const read = this.draft().read();
    const wrong = 'wrong' in read ? [...read.wrong, ...missing] : missing;
    for (const [field, message] of wrong) this.errors.set(field, message);
    return 'wrong' in read || wrong.length > 0 ? undefined : read.fields;
  }

  /** Makes the plan. Nothing when it was refused. */
  make(fields: PlanFields, more: More): Promise<Plan | undefined> {
    const body = { ...fields, ...more };
    return this.#ask(() => granted(this.app.client.POST('/api/plans', { body })));
  }

  /** Changes the plan. Nothing when it was refused. */
  save(id: string, fields: PlanFields, more: More = {}): Promise<Plan | undefined> {
    const params = { path: { id } };
    const put = () => {
      const body = { ...fields, ...more, revision: this.draft().revision };
      return granted(this.app.client.PUT('/api/plans/{id}', { params, body }));
    };
    return this.#ask(async () => {
      try {
        return await put();
      } catch (thrown) {
        if (Problem.from(thrown).code !== 'stale') throw thrown;
        const now = await granted(this.app.client.GET('/api/plans/{id}', { params }));
        const meanwhile = this.draft().rebase(now);
        // Paused or resumed, for one: nothing that the form is about.
        if (meanwhile.taken.length === 0 && meanwhile.kept.length === 0) return put();
        this.meanwhile = meanwhile;
        return undefined;
      }
    });
  }

  async #ask(act: () => Promise<Plan | undefined>): Promise<Plan | undefined> {
    this.isBusy = true;
    try {
      return await act();
    } catch (thrown) {
      this.errors.take(thrown);
      return undefined;
    } finally {
      const { plans, machines, repositories } = this.app.fleet;
      for (const live of [plans, machines, repositories]) live.refresh();
      this.isBusy = false;
    }
  }
}
