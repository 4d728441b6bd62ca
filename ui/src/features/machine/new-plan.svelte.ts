// A further plan of a machine as it is typed. It outlives the page, as all does that is typed.
import { PlanDraft } from '$lib/state/plan-draft.svelte';

/** The typed plan, and where its snapshots will go. */
export class NewPlan {
  isOpen = $state(false);
  repositoryId = $state('');
  plan = $state.raw(PlanDraft.empty());

  /** Begins anew, closed. */
  reset(): void {
    this.isOpen = false;
    this.repositoryId = '';
    this.plan = PlanDraft.empty();
  }
}

/** The first name of this kind that no plan has: `atlas files`, `atlas files 2`. */
export function freeName(machine: string, taken: readonly string[]): string {
  const used = new Set(taken.map((name) => name.toLowerCase()));
  const base = `${machine} files`;
  let name = base;
  for (let n = 2; used.has(name.toLowerCase()); n += 1) name = `${base} ${n}`;
  return name;
}
