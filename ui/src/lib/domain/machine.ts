// How a machine stands, as a pure function of what is known. Never greener than the facts: what was
// not heard of, or is too old, does not count as protected.
import type { LastRun, Machine } from '$lib/api/types';
import { age, parse, relative } from '$lib/format/time';
import type { GlyphName } from './run';

const HOUR = 3_600_000;
/** The oldest restic that agents take. */
export const OLDEST_RESTIC = '0.16.1';
/** Plans run by hand so far, so nothing is late by plan; but a backup this old protects nobody. */
export const STALE_AFTER = 7 * 24 * HOUR;
/** Silence for this long is no longer a machine that was switched off for the night. */
export const SILENT_AFTER = 24 * HOUR;

/** The newest backup that left a snapshot; `null` for none. */
export type LastGood = { at: number; runId: string; isPartial: boolean } | null;

/** Why a machine is as it is; the order is the order of urgency. */
export type Standing =
  | 'held'
  | 'failed'
  | 'silent'
  | 'stale'
  | 'partial'
  | 'uninitialised'
  | 'unplanned'
  | 'never'
  | 'revoked'
  | 'good';

/** The standings from most to least urgent. */
export const URGENCY: Standing[] = [
  'held',
  'failed',
  'stale',
  'silent',
  'partial',
  'uninitialised',
  'unplanned',
  'never',
  'revoked',
  'good',
];

/** How a machine stands. */
export interface MachineState {
  standing: Standing;
  glyph: GlyphName;
  /** A few words for a table's cell. */
  words: string;
  /** Whether it counts in "3 of 4 machines are protected". */
  isProtected: boolean;
  /** Whether something waits or is going on it. */
  isBusy: boolean;
}

/** The newest run of a kind. */
export function newest(machine: Machine, kind: LastRun['kind']): LastRun | undefined {
  return machine.last_runs.find((run) => run.kind === kind);
}

/** The machine's last good backup, of whatever plan it was. */
export function lastGoodOf(machine: Machine): LastGood {
  return good(machine.last_good);
}

function good(told: Machine['last_good']): LastGood {
  const at = parse(told?.at);
  if (!told || at === undefined) return null;
  return { at, runId: told.run_id, isPartial: told.is_partial };
}

/** The last good backup of each plan that may run: a machine is as good as the worst of them. */
function goodOfPlans(machine: Machine): LastGood[] {
  return machine.plans.filter((plan) => plan.enabled).map((plan) => good(plan.last_good));
}

/** The run of a partial snapshot that is the newest of its plan. */
export function partialRun(machine: Machine): string | undefined {
  return goodOfPlans(machine).find((it) => it?.isPartial)?.runId;
}

/** The run that failed, where the machine's action is to do it again. */
export function failedRun(machine: Machine): LastRun | undefined {
  const id = machine.next_action?.run_id;
  const all = [...machine.plans.map((plan) => plan.last_run), ...machine.last_runs];
  return all.find((run) => run?.id === id) ?? undefined;
}

/** How a machine stands now. */
export function machineState(machine: Machine, now: number): MachineState {
  const isBusy = machine.next_action?.action === 'view';
  const isRunning = isBusy && machine.last_runs.some((run) => run.status === 'running');
  const state = standing(machine, now);
  if (isBusy && state.standing !== 'held' && state.standing !== 'revoked') {
    if (!isRunning) return { ...state, glyph: 'waiting', words: 'waiting', isBusy };
    // It may be running still, or not: nobody can say.
    if (!machine.is_online)
      return { ...state, glyph: 'unknown', words: 'running, no contact', isBusy };
    return { ...state, glyph: 'running', words: 'running', isBusy };
  }
  return { ...state, isBusy };
}

type Stand = Omit<MachineState, 'isBusy'>;

function standing(machine: Machine, now: number): Stand {
  const bad = (standing: Standing, glyph: GlyphName, words: string): Stand => {
    return { standing, glyph, words, isProtected: false };
  };
  if (machine.state === 'revoked') return bad('revoked', 'cancelled', 'revoked');
  if (machine.hold) return bad('held', 'failed', 'waits for your decision');
  const plans = goodOfPlans(machine);
  if (plans.length === 0) {
    const words = machine.plans.length === 0 ? 'no plan yet' : 'its plans are off';
    return bad('unplanned', 'unknown', words);
  }
  const action = machine.next_action;
  const isInit = action?.kind === 'init';
  if (isInit && action.action === 'retry') return bad('failed', 'failed', 'initialise failed');
  if (action?.action === 'retry') {
    const at = parse(failedRun(machine)?.finished_at);
    return bad('failed', 'failed', at === undefined ? 'failed' : `failed ${relative(at, now)}`);
  }
  if (isInit) return bad('uninitialised', 'unknown', 'not initialised');
  const known = plans.filter((it) => it !== null);
  if (known.length < plans.length) {
    const hasSome = machine.last_good !== null && machine.last_good !== undefined;
    return bad('never', 'unknown', hasSome ? 'a plan never ran' : 'never backed up');
  }
  const oldest = Math.min(...known.map((it) => it.at));
  if (now - oldest > STALE_AFTER)
    return bad('stale', 'missed', `no backup for ${age(oldest, now)}`);
  const seen = parse(machine.last_seen_at);
  if (!machine.is_online && (seen === undefined || now - seen > SILENT_AFTER)) {
    const since = seen === undefined ? '' : ` for ${age(seen, now)}`;
    return bad('silent', 'unknown', `not heard from${since}`);
  }
  if (known.some((it) => it.isPartial)) {
    return { standing: 'partial', glyph: 'partial', words: 'files unreadable', isProtected: true };
  }
  const words = machine.is_online ? 'protected' : 'protected, not connected';
  return { standing: 'good', glyph: 'ok', words, isProtected: true };
}

/** The system of a machine in words: `linux · arm64`. */
export function systemWords(machine: Pick<Machine, 'os' | 'arch'>): string {
  const os = { linux: 'linux', windows: 'windows', darwin: 'mac' }[machine.os] ?? '';
  const arch = machine.arch === 'amd64' || machine.arch === 'unknown' ? '' : machine.arch;
  return [os, arch].filter(Boolean).join(' · ');
}
