// A plan as it is typed: several paths or patterns one a line, counts as text.
import type { Plan, PlanOptions, Retention } from '$lib/api/types';
import { OPTION_FIELDS, readOptions, typedOption, typedOptions } from '$lib/domain/plan-options';
import { KEEPS, lines, readRetention, type Keep } from '$lib/domain/retention';
import { USUAL_TIMES } from '$lib/domain/times';

/** What a plan's form says when a count is no number. */
export const COUNT_ERROR = 'Each is a number of snapshots to keep, or empty.';

/** The fields of every form of a plan, by the server's names. */
export const PLAN_FIELDS: readonly string[] = [
  'name',
  'paths',
  'excludes',
  'presets',
  'cron',
  'retention',
  ...OPTION_FIELDS,
];

/** What the repository is called in a draft when it is the store. */
export const THE_STORE = 'store';

/** What is compared and taken over as a whole, with its words. */
const PARTS = {
  name: 'its name',
  paths: 'folders and files',
  excludes: 'what is left out',
  presets: 'the sets that are left out',
  cron: 'when it runs',
  keep: 'how long snapshots are kept',
  options: 'limits, options and hooks',
  repository: 'where its snapshots go',
  hostIds: 'its machines',
  hostTags: 'its tags',
} as const;

type Part = keyof typeof PARTS;

/** What is typed as the server takes it. */
export interface PlanFields {
  name: string;
  paths: string[];
  excludes: string[];
  presets: string[];
  cron: string | null;
  retention: Retention | null;
  options: PlanOptions;
}

/** What somebody else changed while a plan was open here, in words. */
export interface Meanwhile {
  /** Taken over into the form. */
  taken: string[];
  /** Changed by both; what is typed here stands. */
  kept: string[];
}

/** The typed plan. */
export class PlanDraft {
  name = $state('');
  paths = $state('');
  excludes = $state('');
  presets = $state<string[]>([]);
  cron = $state('');
  keep = $state<Partial<Record<Keep, string>>>({});
  options = $state(typedOptions(undefined));
  /** The repository's id, {@link THE_STORE}, or nothing as long as none is chosen. */
  repository = $state('');
  hostIds = $state<string[]>([]);
  hostTags = $state<string[]>([]);

  /** No form shows this one: it stays as it is. */
  #keepWithin: string | null | undefined;
  #before: Record<Part, string> = this.#all();
  /** The revision that it is based on; a new plan has none. */
  #revision: number | undefined;

  /** Whether anything was typed since it was made. */
  get isChanged(): boolean {
    const now = this.#all();
    return this.#parts.some((part) => now[part] !== this.#before[part]);
  }

  /** The revision that it is based on. */
  get revision(): number | undefined {
    return this.#revision;
  }

  /** A new plan, with times and a retention that suit most. */
  static empty(repository = ''): PlanDraft {
    const draft = new PlanDraft();
    draft.repository = repository;
    draft.cron = USUAL_TIMES;
    draft.keep = { keep_daily: '7', keep_weekly: '5', keep_monthly: '12' };
    draft.#before = draft.#all();
    return draft;
  }

  /** A plan that is there. */
  static of(plan: Plan): PlanDraft {
    const draft = new PlanDraft();
    draft.name = plan.name;
    draft.paths = plan.paths.join('\n');
    draft.excludes = plan.excludes.join('\n');
    draft.presets = [...plan.presets];
    draft.cron = plan.cron ?? '';
    for (const [keep] of KEEPS) draft.keep[keep] = plan.retention?.[keep]?.toString() ?? '';
    draft.options = typedOptions(plan.options);
    draft.repository = plan.repository_id ?? THE_STORE;
    draft.hostIds = [...plan.host_ids];
    draft.hostTags = [...plan.host_tags];
    draft.#keepWithin = plan.retention?.keep_within;
    draft.#revision = plan.revision;
    draft.#before = draft.#all();
    return draft;
  }

  /**
   * Puts what is typed onto the plan as it is now: what somebody else changed is taken over, but not
   * where something else is typed here.
   */
  rebase(plan: Plan): Meanwhile {
    const theirs = PlanDraft.of(plan);
    const [mine, now] = [this.#all(), theirs.#all()];
    const before = this.#before;
    const changed = this.#parts.filter((part) => now[part] !== before[part]);
    const kept = changed.filter((part) => mine[part] !== before[part] && mine[part] !== now[part]);
    for (const part of changed) if (!kept.includes(part)) this.#take(part, theirs);
    this.#keepWithin = theirs.#keepWithin;
    this.#revision = plan.revision;
    this.#before = now;
    const words = (parts: Part[]) => parts.map((part) => PARTS[part]);
    return { taken: words(changed.filter((part) => !kept.includes(part))), kept: words(kept) };
  }

  /** What is typed into one of its fields, as it stands. */
  typed(field: string): string {
    if (field === 'retention') return JSON.stringify(this.keep);
    if (field === 'repository_id') return this.repository;
    if (field === 'host_ids') return JSON.stringify(this.hostIds);
    if (field === 'host_tags') return JSON.stringify(this.hostTags);
    const { name, paths, excludes, cron } = this;
    const texts: Record<string, string> = { name, paths, excludes, cron };
    return texts[field] ?? typedOption(this.options, field) ?? JSON.stringify(this.presets);
  }

  /** What is typed as the server takes it, or the fields that cannot be read, with what is wrong. */
  read(): { fields: PlanFields } | { wrong: [field: string, message: string][] } {
    const retention = readRetention(this.keep);
    const { options, wrong: errors } = readOptions(this.options);
    if (typeof retention === 'string') errors.unshift(['retention', COUNT_ERROR]);
    if (typeof retention === 'string' || errors.length > 0) return { wrong: errors };
    const within = this.#keepWithin ? { keep_within: this.#keepWithin } : undefined;
    return {
      fields: {
        name: this.name.trim(),
        paths: lines(this.paths),
        excludes: lines(this.excludes),
        presets: [...this.presets],
        cron: this.cron.trim() || null,
        retention: within ? { ...retention, ...within } : retention,
        options,
      },
    };
  }

  get #parts(): Part[] {
    return Object.keys(PARTS) as Part[];
  }

  #all(): Record<Part, string> {
    const keeps = KEEPS.map(([keep]) => this.keep[keep] ?? '');
    const sorted = (list: readonly string[]) => JSON.stringify(list.toSorted());
    return {
      name: this.name,
      paths: this.paths,
      excludes: this.excludes,
      presets: sorted(this.presets),
      cron: this.cron,
      keep: JSON.stringify(keeps),
      options: JSON.stringify(this.options),
      repository: this.repository,
      hostIds: sorted(this.hostIds),
      hostTags: sorted(this.hostTags),
    };
  }

  #take(part: Part, from: PlanDraft): void {
    switch (part) {
      case 'presets':
      case 'hostIds':
      case 'hostTags':
        this[part] = [...from[part]];
        break;
      case 'keep':
        this.keep = { ...from.keep };
        break;
      case 'options':
        this.options = structuredClone($state.snapshot(from.options));
        break;
      case 'name':
      case 'paths':
      case 'excludes':
      case 'cron':
      case 'repository':
        this[part] = from[part];
        break;
    }
  }
}
