// How a machine stands, as a pure function of what is known. Whether its backups come as its plans say, the
// server decides; here it gets its look and its words, and what else a person must know of it comes first.
import type { LastRun, Machine, Repository, Verdict } from '$lib/api/types';
import { age, ago, parse } from '$lib/format/time';
import type { GlyphName } from './run';

/** Which restic a machine needs, in the words of the agent's own guidance. */
export const RESTIC_NEEDED = 'restic 0.17 or newer (0.16.1 is the oldest that works)';
/** Whether the agent of a connected machine found no restic that it can use: nothing can run there. */
export const lacksRestic = (machine: Machine): boolean =>
  machine.is_online && machine.restic_version === '';
/** What starts the agent of a machine that was let in, and keeps it connected. */
export const AGENT_START = 'restic-manager-agent run';
/** How a check ends that found damage; a failed one with any other code found out nothing. */
const DAMAGED = 'repository_damaged';

/** The newest backup that left a snapshot; `null` for none. */
export type LastGood = { at: number; runId: string; isPartial: boolean } | null;

/** What a check found wrong with a repository. */
export interface Damage {
  /** The run that tells more; a check by another machine is not known as a run of this one. */
  runId: string | undefined;
}

/** Why a machine is as it is; the order is the order of urgency. */
export type Standing =
  | 'held'
  | 'damaged'
  | 'failed'
  | 'refused'
  | 'late'
  | 'silent'
  | 'partial'
  | 'uninitialised'
  | 'unplanned'
  | 'never'
  | 'revoked'
  | 'waiting'
  | 'asleep'
  | 'good';

/** The standings from most to least urgent. */
export const URGENCY: Standing[] = [
  'held',
  'damaged',
  'failed',
  'refused',
  'late',
  'silent',
  'partial',
  'uninitialised',
  'unplanned',
  'never',
  'revoked',
  'waiting',
  'asleep',
  'good',
];

/** The standings that the sidebar counts beside Fleet. */
export const URGENT: readonly Standing[] = ['held', 'damaged', 'failed', 'refused'];

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
  /** Told whatever else there is: a decision that is waited for does not mend it. */
  damage: Damage | undefined;
}

/** The newest run of a kind. */
export function newest(machine: Machine, kind: LastRun['kind']): LastRun | undefined {
  return machine.last_runs.find((run) => run.kind === kind);
}

/** The newest run of each of its plans, and of each kind. */
function newestRuns(machine: Machine): LastRun[] {
  const ofPlans = machine.plans.flatMap((plan) => plan.last_run ?? []);
  return [...ofPlans, ...machine.last_runs];
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

/** The last good backup of each plan that may run. */
function goodOfPlans(machine: Machine): LastGood[] {
  return machine.plans.filter((plan) => plan.enabled).map((plan) => good(plan.last_good));
}

/** A backup that wrote its snapshot and is not whole, the newest of its plan. */
export function partialRun(machine: Machine): { id: string; isHook: boolean } | undefined {
  const id = goodOfPlans(machine).find((it) => it?.isPartial)?.runId;
  if (id === undefined) return undefined;
  const code = newestRuns(machine).find((run) => run.id === id)?.code;
  return { id, isHook: code?.startsWith('hook_') ?? false };
}

/** The run that failed: the one that the machine's action does again, or else its plan's newest. */
export function failedRun(machine: Machine): LastRun | undefined {
  const id = machine.next_action?.run_id;
  const ofPlan = machine.plans.find((plan) => plan.verdict === 'failed')?.last_run;
  return newestRuns(machine).find((run) => run.id === id) ?? ofPlan ?? undefined;
}

/**
 * The damage that a check found, unless a later one was sound. The facts of a repository also know of
 * checks by other machines, and keep what was found when a later check could not look; the run knows
 * it before the facts are read.
 */
export function damageOf(
  machine: Machine,
  repositories: readonly Repository[],
): Damage | undefined {
  const check = newest(machine, 'check');
  const endedAt = parse(check?.finished_at) ?? 0;
  const facts = repositories.map((it) => it.facts);
  const wasCheckedSince = facts.some((it) => (parse(it.last_check_at) ?? 0) > endedAt);
  const isTold = check?.code === DAMAGED && !wasCheckedSince;
  if (!isTold && !facts.some((it) => it.last_check_status === 'failed')) return undefined;
  // A prune of a repository in the store checks it first.
  const told = [check, newest(machine, 'prune')].find((run) => run?.code === DAMAGED);
  return { runId: told?.id };
}

/** How a machine stands now, with what is known of its repositories. */
export function machineState(
  machine: Machine,
  now: number,
  repositories: readonly Repository[] = [],
): MachineState {
  const isBusy = machine.next_action?.action === 'view';
  const isRunning = isBusy && newestRuns(machine).some((run) => run.status === 'running');
  const damage = machine.state === 'revoked' ? undefined : damageOf(machine, repositories);
  const state = { ...standing(machine, now, damage), damage };
  if (isBusy && state.standing !== 'held' && state.standing !== 'revoked') {
    if (!isRunning) return { ...state, glyph: 'waiting', words: 'waiting', isBusy };
    // It may be running still, or not: nobody can say.
    if (!machine.is_online)
      return { ...state, glyph: 'unknown', words: 'running, no contact', isBusy };
    return { ...state, glyph: 'running', words: 'running', isBusy };
  }
  return { ...state, isBusy };
}

type Stand = Omit<MachineState, 'isBusy' | 'damage'>;

function standing(machine: Machine, now: number, damage: Damage | undefined): Stand {
  const bad = (standing: Standing, glyph: GlyphName, words: string): Stand => {
    return { standing, glyph, words, isProtected: false };
  };
  if (machine.state === 'revoked') return bad('revoked', 'cancelled', 'revoked');
  if (machine.hold) return bad('held', 'failed', 'waits for your decision');
  if (damage) return bad('damaged', 'failed', 'check found damage');
  if (!machine.verdict) {
    const words = machine.plans.length === 0 ? 'no plan yet' : 'its plans are off';
    return bad('unplanned', 'unknown', words);
  }
  const action = machine.next_action;
  const isInit = action?.kind === 'init';
  if (isInit && action.action === 'retry') return bad('failed', 'failed', 'initialise failed');
  if (isInit) return bad('uninitialised', 'unknown', 'not initialised');
  const { standing, glyph, isProtected } = VERDICTS[machine.verdict] ?? UNKNOWN;
  return { standing, glyph, isProtected, words: wordsOf(machine, machine.verdict, now) };
}

/** How the server's verdicts look, and which of them count as protected. */
const VERDICTS: Record<Verdict, Omit<Stand, 'words'>> = {
  protected: { standing: 'good', glyph: 'ok', isProtected: true },
  asleep: { standing: 'asleep', glyph: 'asleep', isProtected: true },
  waiting: { standing: 'waiting', glyph: 'waiting', isProtected: true },
  partial: { standing: 'partial', glyph: 'partial', isProtected: true },
  never: { standing: 'never', glyph: 'unknown', isProtected: false },
  silent: { standing: 'silent', glyph: 'unknown', isProtected: false },
  late: { standing: 'late', glyph: 'missed', isProtected: false },
  refused: { standing: 'refused', glyph: 'failed', isProtected: false },
  failed: { standing: 'failed', glyph: 'failed', isProtected: false },
};

/** What a newer server says is not known here. */
const UNKNOWN = VERDICTS.silent;

function wordsOf(machine: Machine, verdict: Verdict, now: number): string {
  const seen = parse(machine.last_seen_at);
  switch (verdict) {
    case 'protected':
      return machine.is_online ? 'protected' : 'protected, not connected';
    case 'asleep':
      return machine.is_online || seen === undefined ? 'asleep' : `asleep for ${age(seen, now)}`;
    case 'waiting':
      return 'waits, something is in the way';
    case 'partial':
      return partialRun(machine)?.isHook ? 'a hook failed' : 'files unreadable';
    case 'never':
      return machine.last_good ? 'a plan never ran' : 'never backed up';
    case 'late': {
      const late = machine.plans.filter((plan) => plan.verdict === 'late');
      const ends = late.map((plan) => good(plan.last_good)?.at).filter((at) => at !== undefined);
      return ends.length > 0 ? `no backup for ${age(Math.min(...ends), now)}` : 'overdue';
    }
    case 'refused':
      return 'cannot run its hooks';
    case 'failed': {
      const at = parse(failedRun(machine)?.finished_at);
      return at === undefined ? 'failed' : `failed ${ago(at, now)}`;
    }
    default:
      if (machine.is_online) return 'telling what it did';
      return seen === undefined ? 'not heard from' : `no word for ${age(seen, now)}`;
  }
}

/** The system of a machine in words: `linux · arm64`. */
export function systemWords(machine: Pick<Machine, 'os' | 'arch'>): string {
  const os = { linux: 'linux', windows: 'windows', darwin: 'mac' }[machine.os] ?? '';
  const arch = machine.arch === 'amd64' || machine.arch === 'unknown' ? '' : machine.arch;
  return [os, arch].filter(Boolean).join(' · ');
}
