// How a plan stands on its machines. Pure.
import type { LastRun, Machine, Plan } from '$lib/api/types';
import { didNotWork, statusGlyph, statusWords, type GlyphName } from '$lib/domain/run';
import { plural } from '$lib/format/number';
import { clean } from '$lib/format/text';

/** A plan on one of its machines. */
export interface OnMachine {
  machine: Machine;
  /** The newest backup of the plan on it. */
  last: LastRun | undefined;
  /** What its newest backup came to. */
  outcome: Outcome;
  /** Whether it did not get the plan, because its agent cannot do what it says. */
  isRefused: boolean;
  /** The tags by which it has the plan. */
  tags: string[];
}

/** How a plan stands. */
export interface PlanStand {
  /** Its machines, by name, without those that were revoked. */
  on: OnMachine[];
  /** How many of them know the plan as it is. */
  know: number;
  glyph: GlyphName;
  /** What the newest backups came to: `1 failed, 2 succeeded`. */
  outcome: string;
}

/** Worst first, as the words are put. */
const ORDER = [
  'failed',
  'refused',
  'late',
  'silent',
  'partial',
  'never',
  'open',
  'cancelled',
  'asleep',
  'good',
] as const;
type Outcome = (typeof ORDER)[number];

const WORDS: Record<Outcome, string> = {
  failed: 'failed',
  refused: 'did not get it',
  late: 'late',
  silent: 'not heard from',
  partial: 'partial',
  never: 'never ran',
  open: 'going or waiting',
  cancelled: 'cancelled',
  asleep: 'asleep',
  good: 'succeeded',
};

const GLYPHS: Record<Outcome, GlyphName> = {
  failed: 'failed',
  refused: 'failed',
  late: 'missed',
  silent: 'unknown',
  partial: 'partial',
  never: 'unknown',
  open: 'running',
  cancelled: 'cancelled',
  asleep: 'asleep',
  good: 'ok',
};

/** What the newest backup came to; where none came that was due, or nobody knows, that comes first. */
function outcomeOf({ verdict, last_run: last }: Machine['plans'][number]): Outcome {
  if (verdict === 'refused') return verdict;
  if (last && ['queued', 'running'].includes(last.status)) return 'open';
  if (verdict === 'failed' || verdict === 'late' || verdict === 'silent' || verdict === 'asleep')
    return verdict;
  if (!last) return 'never';
  if (didNotWork(last.status)) return 'failed';
  if (last.status === 'succeeded') return 'good';
  if (last.status === 'partial' || last.status === 'cancelled') return last.status;
  return 'open';
}

/** How a plan stands on these machines. */
export function planStand(plan: Plan, machines: readonly Machine[]): PlanStand {
  const on = machines
    .filter((it) => it.state !== 'revoked' && plan.all_host_ids.includes(it.id))
    .map((machine): OnMachine => {
      const stand = machine.plans.find((it) => it.plan_id === plan.id);
      return {
        machine,
        last: stand?.last_run ?? undefined,
        outcome: stand ? outcomeOf(stand) : 'never',
        isRefused: stand?.verdict === 'refused',
        tags: plan.host_tags.filter((tag) => machine.tags.includes(tag)),
      };
    });
  const outcomes: Outcome[] = on.map((it) => it.outcome);
  const some = ORDER.filter((outcome) => outcomes.includes(outcome));
  const counted = some.map((outcome) => {
    const n = outcomes.filter((it) => it === outcome).length;
    return on.length === 1 ? WORDS[outcome] : `${n} ${WORDS[outcome]}`;
  });
  const worst = some[0];
  return {
    on,
    know: on.filter((it) => it.machine.in_sync && !it.isRefused).length,
    glyph: !plan.enabled ? 'cancelled' : worst ? GLYPHS[worst] : 'unknown',
    outcome: counted.join(', ') || '—',
  };
}

/** Whether its machines have it: `2 of 3 machines have it`. */
export function knowWords({ on, know }: Pick<PlanStand, 'on' | 'know'>, it = 'it'): string {
  const [only] = on;
  if (!only) return `no machine has ${it}`;
  if (on.length === 1)
    return `${clean(only.machine.name)} ${know === 1 ? 'has' : 'does not have'} ${it}`;
  if (know < on.length)
    return `${know} of ${plural(on.length, 'machine')} ${know === 1 ? 'has' : 'have'} ${it}`;
  return `${plural(on.length, 'machine')} have ${it}`;
}

/** Whether one machine has the plans as they are now: `has version 3 of 4`. */
export function versionWords({ machine, isRefused }: OnMachine): string {
  if (isRefused) return 'cannot run its hooks';
  if (machine.in_sync) return 'has it';
  if (machine.acked_generation === 0) return 'does not have it yet';
  return `has version ${machine.acked_generation} of ${machine.desired_generation}`;
}

/** The shape and the words of a plan's newest backup on a machine. */
export function lastWords(last: LastRun | undefined): { glyph: GlyphName; words: string } {
  return last
    ? { glyph: statusGlyph(last.status), words: statusWords(last.status) }
    : { glyph: 'unknown', words: 'never ran' };
}

/** The first sentence over all plans. */
export function plansSentence(plans: readonly Plan[], machines: readonly Machine[]): string {
  const here = machines.filter((it) => it.state !== 'revoked');
  const without = here.filter((it) => it.plan_ids.length === 0).length;
  const off = plans.filter((plan) => !plan.enabled && plan.all_host_ids.length > 0).length;
  if (without > 0) {
    return without === 1 ? 'One machine has no plan.' : `${without} machines have no plan.`;
  }
  if (off > 0) return off === 1 ? 'One plan is paused.' : `${off} plans are paused.`;
  return here.length === 0
    ? `${plural(plans.length, 'plan')}, and no machine yet.`
    : 'Every machine has a plan.';
}
