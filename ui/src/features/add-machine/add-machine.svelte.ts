// What is typed and done while a machine is added. It outlives the page, so that looking elsewhere
// loses nothing. Nothing is stored before all of it is valid.
import { granted } from '$lib/api/client';
import type {
  CreatedEnrolment,
  CreatedRepository,
  CreateRepositoryForm,
  Plan,
  PlanForMachineForm,
} from '$lib/api/types';
import type { App } from '$lib/state/app.svelte';
import { ConnectionTest } from '$lib/state/connection-test.svelte';
import { FormErrors } from '$lib/state/form-errors.svelte';
import { PLAN_FIELDS, PlanDraft } from '$lib/state/plan-draft.svelte';

/** The fields that errors can go to, by the server's names, with what stands in each. */
const FIELDS: Record<string, (draft: AddMachine) => string> = {
  name: (draft) => draft.name,
  plan_id: (draft) => draft.planId,
  folder: (draft) => draft.folder,
  ...Object.fromEntries(
    PLAN_FIELDS.map((field) => [`plan.${field}`, (draft: AddMachine) => draft.plan.typed(field)]),
  ),
  'plan.name': (draft) => draft.planName,
  'plan.repository_id': (draft) => draft.repositoryId,
  'plan.repository.name': (draft) => draft.repositoryName,
  'plan.repository.url': ({ repository }) => repository.url,
  // The two go together, so a change of one may mend the other.
  'plan.repository.username': ({ repository }) => `${repository.username}:${repository.credential}`,
  'plan.repository.credential': ({ repository }) =>
    `${repository.username}:${repository.credential}`,
  'plan.repository.password': ({ repository }) => repository.password,
  'plan.repository.ca_pem': ({ repository }) => repository.caPem,
};

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
  /** As chosen; until then what {@link where} says. */
  chosen = $state<'store' | 'new' | 'existing'>();
  /** The folder of a store that has none yet. */
  folder = $state('');
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
  readonly errors = new FormErrors(Object.keys(FIELDS), (field) => FIELDS[field]?.(this));
  readonly test: ConnectionTest;

  constructor(private readonly app: App) {
    this.test = new ConnectionTest(app.client, this.errors, 'plan.repository.');
  }

  /** Whether a plan that is there is chosen; there may be none to choose from. */
  get byKnownPlan(): boolean {
    return this.what === 'existing' && (this.app.fleet.plans.data ?? []).length > 0;
  }

  /** Whether it is known where backups can go. Before, nothing can be offered first. */
  get knowsPlaces(): boolean {
    const { store, repositories } = this.app.fleet;
    return !store.isLoading && !repositories.isLoading;
  }

  /**
   * Where its backups go. The store comes first where there is one, and for who has entered no other
   * place yet: it needs nothing else.
   */
  get where(): 'store' | 'new' | 'existing' {
    const state = this.app.fleet.store.data?.state;
    const hasEntered = this.app.fleet.enteredRepositories.length > 0;
    const isThere = { store: state !== undefined, existing: hasEntered, new: true };
    if (this.chosen && isThere[this.chosen]) return this.chosen;
    return state === 'here' || (state === 'homeless' && !hasEntered) ? 'store' : 'new';
  }

  /** The name of the new plan: as typed, or after the machine. */
  get planName(): string {
    return this.plan.name.trim() || `${this.name.trim()} files`.trim();
  }

  /** The name of the new repository: as typed, or the machine's. */
  get repositoryName(): string {
    return this.repository.name.trim() || this.name.trim();
  }

  /** The plan that the machine gets. */
  get planOfMachine(): string {
    return this.createdPlan?.id ?? this.planId;
  }

  /** Makes the install line, and with it the plan and the repository if they are new. */
  async submit(): Promise<void> {
    this.errors.clear();
    this.#sayWhatIsMissing();
    if (this.errors.isAny) return;
    this.isBusy = true;
    const name = this.name.trim();
    const body = this.byKnownPlan
      ? { name, plan_id: this.planId }
      : { name, plan: this.#planForm() };
    try {
      await this.#openStore();
      this.enrolment = await granted(this.app.client.POST('/api/enrolments', { body }));
      this.createdPlan = this.enrolment.plan ?? undefined;
      this.created = this.enrolment.repository ?? undefined;
      // These are sealed in the manager now; the page need not hold them any longer.
      this.repository.credential = '';
      this.repository.password = '';
    } catch (thrown) {
      this.errors.take(thrown);
    } finally {
      this.isBusy = false;
    }
  }

  /** Gives the store its folder, where the machine's backups go there and it has none. */
  async #openStore(): Promise<void> {
    const isHomeless = this.app.fleet.store.data?.state === 'homeless';
    if (this.byKnownPlan || this.where !== 'store' || !isHomeless) return;
    const body = { folder: this.folder.trim() };
    this.app.fleet.store.set(await granted(this.app.client.PUT('/api/store', { body })));
  }

  /** Makes a new install line after the old one ran out. */
  async renew(): Promise<void> {
    this.isBusy = true;
    const body = { name: this.name.trim(), plan_id: this.planOfMachine };
    try {
      this.enrolment = await granted(this.app.client.POST('/api/enrolments', { body }));
    } catch (thrown) {
      this.app.toasts.fail(thrown);
    } finally {
      this.isBusy = false;
    }
  }

  /**
   * Begins anew. What was made for a machine that came in is offered to the next one; what was made
   * for nobody is not.
   * @param line What becomes of the install line: one that nobody used lets nobody in any more.
   */
  async reset(line: 'was-used' | 'withdraw'): Promise<void> {
    const waiting = line === 'withdraw' ? this.enrolment : undefined;
    if (this.createdPlan) {
      this.planId = waiting ? '' : this.createdPlan.id;
      if (!waiting) this.repositoryId = this.createdPlan.repository_id ?? '';
      else if (this.created) this.repositoryId = '';
    }
    this.name = '';
    this.chosen = this.repositoryId ? 'existing' : undefined;
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

  /** All that is obviously missing, at once: the server names one thing at a time. */
  #sayWhatIsMissing(): void {
    const say = (isMissing: boolean, field: string, message: string) => {
      if (isMissing) this.errors.set(field, message);
    };
    say(this.name.trim() === '', 'name', 'Say what the machine is called.');
    if (this.byKnownPlan) {
      say(!this.planId, 'plan_id', 'Choose a plan, or describe a new one.');
      return;
    }
    const noPath = 'Name at least one folder or file to back up.';
    say(this.plan.paths.trim() === '', 'plan.paths', noPath);
    const read = this.plan.read();
    if ('wrong' in read)
      for (const [field, message] of read.wrong) say(true, `plan.${field}`, message);
    if (this.where === 'store') {
      const isHomeless = this.app.fleet.store.data?.state === 'homeless';
      say(isHomeless && this.folder.trim() === '', 'folder', 'Say where the store shall lie.');
    } else if (this.where === 'existing') {
      const none = 'Choose a repository, or enter a new one.';
      say(!this.repositoryId, 'plan.repository_id', none);
    } else {
      say(this.repository.url.trim() === '', 'plan.repository.url', 'Say where its backups go.');
    }
  }

  #planForm(): PlanForMachineForm {
    const read = this.plan.read();
    const plan = { ...('fields' in read ? read.fields : { paths: [] }), name: this.planName };
    if (this.where === 'store') return plan;
    return this.where === 'existing'
      ? { ...plan, repository_id: this.repositoryId }
      : { ...plan, repository: this.#repositoryForm() };
  }

  #repositoryForm(): CreateRepositoryForm {
    const { url, username, credential, password, caPem, appendOnly } = this.repository;
    return {
      name: this.repositoryName,
      url: url.trim(),
      username: username.trim() || null,
      credential: credential || null,
      password: password || null,
      ca_pem: caPem.trim() || null,
      append_only: appendOnly,
    };
  }
}
