// A plan as it is typed: several paths or patterns one a line, counts as text.
import type { Plan, Retention } from '$lib/api/types';
import { USUAL_TIMES } from '$lib/domain/times';
import { KEEPS, lines, readRetention, type Keep } from '$lib/domain/retention';

/** What a plan's form says when a count is no number. */
export const COUNT_ERROR = 'Each is a number of snapshots to keep, or empty.';

/** The typed plan. */
export class PlanDraft {
  name = $state('');
  paths = $state('');
  excludes = $state('');
  cron = $state('');
  keep = $state<Partial<Record<Keep, string>>>({});
  #before = '';

  /** Whether anything was typed since it was made. */
  get isChanged(): boolean {
    return this.#all() !== this.#before;
  }

  /** A new plan, with times and a retention that suit most. */
  static empty(): PlanDraft {
    const draft = new PlanDraft();
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
    draft.cron = plan.cron ?? '';
    for (const [keep] of KEEPS) draft.keep[keep] = plan.retention?.[keep]?.toString() ?? '';
    draft.#before = draft.#all();
    return draft;
  }

  #all(): string {
    const keeps = KEEPS.map(([keep]) => this.keep[keep] ?? '');
    return JSON.stringify([this.name, this.paths, this.excludes, this.cron, keeps]);
  }

  /** What is typed into one of its fields, as it stands. */
  typed(field: string): string {
    const { name, paths, excludes, cron } = this;
    return { name, paths, excludes, cron }[field] ?? JSON.stringify(this.keep);
  }

  /** What is typed as the server takes it; nothing when a count is no number. */
  read():
    | (Pick<Plan, 'name' | 'paths' | 'excludes'> & {
        cron: string | null;
        retention: Retention | null;
      })
    | undefined {
    const retention = readRetention(this.keep);
    if (typeof retention === 'string') return undefined;
    const { name, paths, excludes } = this;
    const cron = this.cron.trim() || null;
    return { name: name.trim(), paths: lines(paths), excludes: lines(excludes), cron, retention };
  }
}
