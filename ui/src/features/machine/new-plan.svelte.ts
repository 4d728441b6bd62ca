// A further plan of a machine as it is typed. It outlives the page, as all does that is typed.
import { PlanDraft } from '$lib/state/plan-draft.svelte';

/** The typed plan. */
export class NewPlan {
  isOpen = $state(false);
  plan = $state.raw(PlanDraft.empty());

  /** Opens or closes it. As long as nothing is typed it begins with this place for its snapshots. */
  toggle(place: string): void {
    if (!this.isOpen && !this.plan.isChanged) this.plan = PlanDraft.empty(place);
    this.isOpen = !this.isOpen;
  }

  /** Begins anew, closed. */
  reset(): void {
    this.isOpen = false;
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
