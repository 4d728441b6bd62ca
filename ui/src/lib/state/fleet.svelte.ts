// The fleet as the whole window sees it: machines, what needs a person, what is going on, and where
// backups go.
import { granted, type Client } from '$lib/api/client';
import type { EventHub } from '$lib/api/events';
import type {
  Announcement,
  Machine,
  Notice,
  Plan,
  Preset,
  Repository,
  Run,
  Store,
  Strip,
  System,
} from '$lib/api/types';
import type { Standings } from '$lib/domain/attention';
import { lastGoodOf, machineState } from '$lib/domain/machine';
import { isStored, STORE_WORDS } from '$lib/domain/repository';
import { stripDays, type StripDay } from '$lib/domain/slots';
import { clean, sentence } from '$lib/format/text';
import type { Clock } from './clock.svelte';
import { Live } from './live.svelte';
import { THE_STORE } from './plan-draft.svelte';

/** Progress has no events of its own in lists: while something runs, the open runs are asked. */
const PROGRESS_EVERY_MS = 2000;
/** How soon it is seen that a slot's time came and nothing ran. */
const STRIPS_EVERY_MS = 5 * 60_000;

/** The fleet. */
export class Fleet {
  readonly machines: Live<Machine[]>;
  readonly notices: Live<Notice[]>;
  readonly announcements: Live<Announcement[]>;
  readonly openRuns: Live<Run[]>;
  readonly plans: Live<Plan[]>;
  /** The named sets of excludes; only read where a plan is typed. */
  readonly presets: Live<Preset[]>;
  readonly repositories: Live<Repository[]>;
  readonly system: Live<System>;
  /** Only kept fresh where it is shown, by {@link watchStrips}: a month of a fleet is much to count. */
  readonly strips: Live<Strip[]>;
  /** Only kept fresh where it is shown, by {@link watchStore}: it looks at the disk. */
  readonly store: Live<Store>;

  /** Moves once a minute: what hangs on "how old" need not be judged every second. */
  readonly #minute: number;
  /** Each machine with how it stands, by name. */
  readonly standings: Standings[];
  readonly #stripsById: Map<string, StripDay[]>;
  /** Open runs by id. */
  readonly runsById: Map<string, Run>;

  constructor(hub: EventHub, client: Client, clock: Clock) {
    const live = <T>(topics: string[], read: () => Promise<T>, gapMs?: number) =>
      new Live<T>(hub, { read, wants: (change) => topics.includes(change.topic), gapMs });
    this.machines = live(
      ['host', 'run', 'plan', 'repository'],
      () => granted(client.GET('/api/hosts')),
      800,
    );
    this.notices = live(['notices'], () => granted(client.GET('/api/notices')));
    this.announcements = live(['announcements', 'host'], () =>
      granted(client.GET('/api/announcements')),
    );
    this.openRuns = live(['run', 'host'], () =>
      granted(client.GET('/api/runs', { params: { query: { open: true, limit: 200 } } })),
    );
    this.plans = live(['plan', 'host'], () => granted(client.GET('/api/plans')), 800);
    this.presets = live([], () => granted(client.GET('/api/plans/presets')));
    this.repositories = live(
      ['repository', 'plan'],
      () => granted(client.GET('/api/repositories')),
      800,
    );
    this.system = live(['host', 'run'], () => granted(client.GET('/api/system')), 2000);
    this.strips = live(['run', 'host'], () => granted(client.GET('/api/slots')), 5000);
    this.store = live(['store', 'host'], () => granted(client.GET('/api/store')), 1000);
    this.#minute = $derived(Math.floor(clock.now / 60_000) * 60_000);
    this.standings = $derived.by(() => {
      // A run may have ended within this minute.
      const now = Math.max(this.#minute, Date.now());
      return (this.machines.data ?? []).map((machine) => {
        const state = machineState(machine, now, this.repositoriesOf(machine));
        return { machine, lastGood: lastGoodOf(machine), state };
      });
    });
    this.#stripsById = $derived(
      new Map((this.strips.data ?? []).map((strip) => [strip.host_id, stripDays(strip)])),
    );
    this.runsById = $derived(new Map((this.openRuns.data ?? []).map((run) => [run.id, run])));
  }

  /** The machines that ask to join. */
  get asking(): Announcement[] {
    return this.announcements.data ?? [];
  }

  /** The machine of this id. */
  machine(id: string): Machine | undefined {
    return this.machines.data?.find((machine) => machine.id === id);
  }

  /** The repository of this id. */
  repository(id: string | null | undefined): Repository | undefined {
    return this.repositories.data?.find((repository) => repository.id === id);
  }

  /** The repositories of a machine's plans, as far as they are known. */
  repositoriesOf(machine: Machine): Repository[] {
    return machine.repository_ids.map((id) => this.repository(id)).filter((it) => it !== undefined);
  }

  /** The last 30 days of a machine whose plans run by the clock. */
  stripOf(machine: Machine): StripDay[] | undefined {
    return this.#stripsById.get(machine.id);
  }

  /** The machines that back up into the store. */
  get storedMachines(): Machine[] {
    return (this.machines.data ?? []).filter(
      (it) => it.state !== 'revoked' && this.repositoriesOf(it).some(isStored),
    );
  }

  /** The repositories that were entered; those in the store belong to their machines. */
  get enteredRepositories(): Repository[] {
    return (this.repositories.data ?? []).filter((it) => !isStored(it));
  }

  /** Where the snapshots of a plan can go, as a form offers it. */
  get places(): { value: string; words: string }[] {
    return [
      { value: THE_STORE, words: sentence(STORE_WORDS) },
      ...this.enteredRepositories.map(({ id, name, url }) => ({
        value: id,
        words: `${clean(name)} (${clean(url)})`,
      })),
    ];
  }

  /**
   * Where a further plan of a machine most likely goes: into the store, where all of its plans do or
   * nothing else is there. Between repositories that were entered a person chooses.
   */
  usualPlaceOf(machine: Machine): string {
    const plans = (this.plans.data ?? []).filter((it) => it.all_host_ids.includes(machine.id));
    const isStoreUsed = plans.length > 0 && plans.every((it) => !it.repository_id);
    const isOnly = this.repositories.data?.every(isStored) ?? false;
    return isStoreUsed || isOnly ? THE_STORE : '';
  }

  /** The repository into which a machine's snapshots of a plan go, once there is one. */
  repositoryOf(plan: Plan, machine: Machine): Repository | undefined {
    return plan.repository_id
      ? this.repository(plan.repository_id)
      : this.repositories.data?.find((it) => it.store_host_id === machine.id);
  }

  /** The tags that machines or plans have, each once and in order. */
  get tags(): string[] {
    const of = [
      ...(this.machines.data ?? []).flatMap((machine) => machine.tags),
      ...(this.plans.data ?? []).flatMap((plan) => plan.host_tags),
    ];
    return [...new Set(of)].toSorted((a, b) => a.localeCompare(b, 'en'));
  }

  /** The systems of these machines, each once. */
  systemsOf(ids: readonly string[]): string[] {
    const systems = ids.map((id) => this.machine(id)?.os).filter((it) => it !== undefined);
    return [...new Set(systems)];
  }

  /** Where a plan's snapshots go, in words. */
  placeOf(plan: Plan): string {
    if (!plan.repository_id) return STORE_WORDS;
    return this.repository(plan.repository_id)?.name ?? 'its repository';
  }

  /** What the machine's repositories take, and whether others write into them too. */
  sizeOf(machine: Machine): { bytes: number | undefined; isShared: boolean } {
    let bytes: number | undefined;
    let isShared = false;
    for (const { facts, host_ids } of this.repositoriesOf(machine)) {
      const size = facts.size_bytes;
      if (typeof size === 'number') bytes = (bytes ?? 0) + size;
      if (host_ids.length > 1) isShared = true;
    }
    return { bytes, isShared };
  }

  /**
   * Keeps the store fresh until the returned function is called. That its disk comes or goes is no
   * event of the server's: who comes back to the window sees how it is then.
   */
  watchStore(): () => void {
    const stop = this.store.start();
    const look = () => this.store.refresh();
    window.addEventListener('focus', look);
    return () => {
      window.removeEventListener('focus', look);
      stop();
    };
  }

  /**
   * Keeps the strips fresh until the returned function is called. That a slot's time comes is no event
   * of the server's.
   */
  watchStrips(): () => void {
    const stop = this.strips.start();
    const timer = setInterval(() => this.strips.refresh(), STRIPS_EVERY_MS);
    return () => {
      clearInterval(timer);
      stop();
    };
  }

  /** Keeps everything fresh until the returned function is called. Call it inside an effect. */
  start(): () => void {
    const all = [this.machines, this.notices, this.openRuns, this.plans, this.repositories];
    const others = [this.announcements, this.system];
    const stops = [...all, ...others].map((live) => live.start());
    const timer = setInterval(() => {
      const isRunning = this.openRuns.data?.some((run) => run.status === 'running');
      if (isRunning && document.visibilityState === 'visible') this.openRuns.refresh();
    }, PROGRESS_EVERY_MS);
    return () => {
      clearInterval(timer);
      stops.forEach((stop) => stop());
    };
  }
}
