// What is typed and done while a machine is added. It outlives the page, so that looking elsewhere
// loses nothing; what was created is not created again when a later step is refused.
import { granted } from '$lib/api/client';
import { Problem } from '$lib/api/problem';
import type { CreatedEnrolment, CreatedRepository, Plan } from '$lib/api/types';
import type { App } from '$lib/state/app.svelte';
import { ConnectionTest } from '$lib/state/connection-test.svelte';
import { FormErrors } from '$lib/state/form-errors.svelte';
import { COUNT_ERROR, PlanDraft } from '$lib/state/plan-draft.svelte';

/** The fields that errors can go to; the prefix tells whose they are. */
const FIELDS = [
  'enrolment.name',
  'repository.id',
  'repository.name',
  'repository.url',
  'repository.username',
  'repository.credential',
  'repository.password',
  'repository.ca_pem',
  'plan.id',
  'plan.name',
  'plan.paths',
  'plan.excludes',
  'plan.retention',
] as const;

/** The repository's fields. */
export interface RepositoryDraft {
  name: string;
  url: string;
  username: string;
  credential: string;
  password: string;
  caPem: string;
  appendOnly: boolean;
}

const emptyRepository = (): RepositoryDraft => ({
  name: '',
  url: '',
  username: '',
  credential: '',
  password: '',
  caPem: '',
  appendOnly: false,
});

/** The adding of one machine. */
export class AddMachine {
  name = $state('');
  where = $state<'new' | 'existing'>('new');
  repositoryId = $state('');
  repository = $state(emptyRepository());
  what = $state<'new' | 'existing'>('new');
  planId = $state('');
  plan = $state.raw(PlanDraft.empty());

  /** The repository that was entered, with what was minted for it. */
  created = $state.raw<CreatedRepository>();
  /** The plan that was made. */
  createdPlan = $state.raw<Plan>();
  /** The enrolment with its install line. */
  enrolment = $state.raw<CreatedEnrolment>();

  isBusy = $state(false);
  readonly errors = new FormErrors(FIELDS);
  readonly test: ConnectionTest;

  constructor(private readonly app: App) {
    this.test = new ConnectionTest(app.client, this.errors, 'repository.');
  }

  /** Enters the repository, makes the plan, and lets the machine in: what is not done yet. */
  async submit(): Promise<void> {
    this.errors.clear();
    if (this.name.trim() === '') {
      // The repository would be refused for it first, at a field that may stay empty.
      this.errors.set('enrolment.name', 'Say what the machine is called.');
      return;
    }
    this.isBusy = true;
    try {
      const repositoryId = await this.#step('repository.', () => this.#ensureRepository());
      const planId =
        repositoryId && (await this.#step('plan.', () => this.#ensurePlan(repositoryId)));
      if (planId) await this.#step('enrolment.', () => this.#enrol(planId));
    } finally {
      this.isBusy = false;
    }
  }

  /** Makes a new install line after the old one ran out. */
  async renew(): Promise<void> {
    const planId = this.createdPlan?.id ?? this.planId;
    this.isBusy = true;
    await this.#step('enrolment.', () => this.#enrol(planId));
    this.isBusy = false;
  }

  /**
   * Begins anew.
   * @param line What becomes of the install line: one that nobody used lets nobody in any more.
   */
  async reset(line: 'was-used' | 'withdraw'): Promise<void> {
    const waiting = line === 'withdraw' ? this.enrolment : undefined;
    this.name = '';
    this.repositoryId = this.created?.repository.id ?? this.repositoryId;
    this.where = this.repositoryId ? 'existing' : 'new';
    this.planId = this.createdPlan?.id ?? this.planId;
    this.what = this.planId ? 'existing' : 'new';
    this.repository = emptyRepository();
    this.plan = PlanDraft.empty();
    this.created = undefined;
    this.createdPlan = undefined;
    this.enrolment = undefined;
    this.test.clear();
    this.errors.clear();
    if (!waiting) return;
    const params = { path: { id: waiting.id } };
    const call = this.app.client.DELETE('/api/enrolments/{id}', { params });
    await granted(call).catch((thrown) => this.app.toasts.fail(thrown));
  }

  /** Does one step; a refusal goes to its fields, and ends the walk. */
  async #step<T>(prefix: string, act: () => Promise<T>): Promise<T | undefined> {
    try {
      return await act();
    } catch (thrown) {
      this.errors.take(thrown, prefix);
      return undefined;
    }
  }

  async #ensureRepository(): Promise<string | undefined> {
    if (this.created) return this.created.repository.id;
    if (this.what === 'existing' && this.planId) {
      const plan = this.app.fleet.plans.data?.find((it) => it.id === this.planId);
      if (plan) return plan.repository_id;
    }
    if (this.where === 'existing') {
      if (!this.repositoryId) throw missing('id', 'Choose a repository, or enter a new one.');
      return this.repositoryId;
    }
    const { name, url, username, credential, password, caPem, appendOnly } = this.repository;
    const body = {
      name: name.trim() || this.name.trim(),
      url: url.trim(),
      username: username.trim() || null,
      credential: credential || null,
      password: password || null,
      ca_pem: caPem.trim() || null,
      append_only: appendOnly,
    };
    this.created = await granted(this.app.client.POST('/api/repositories', { body }));
    // These are sealed in the manager now; the page need not hold them any longer.
    this.repository.credential = '';
    this.repository.password = '';
    return this.created.repository.id;
  }

  async #ensurePlan(repositoryId: string): Promise<string> {
    if (this.createdPlan) return this.createdPlan.id;
    if (this.what === 'existing') {
      if (!this.planId) throw missing('id', 'Choose a plan, or describe a new one.');
      return this.planId;
    }
    const typed = this.plan.read();
    if (!typed) throw missing('retention', COUNT_ERROR);
    const name = typed.name || `${this.name.trim()} files`.trim();
    const body = { ...typed, name, repository_id: repositoryId };
    this.createdPlan = await granted(this.app.client.POST('/api/plans', { body }));
    return this.createdPlan.id;
  }

  async #enrol(planId: string): Promise<void> {
    const body = { name: this.name.trim(), plan_id: planId };
    this.enrolment = await granted(this.app.client.POST('/api/enrolments', { body }));
  }
}

function missing(field: string, message: string): Problem {
  return new Problem('invalid_input', message, { field });
}
