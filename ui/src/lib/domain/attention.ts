// What the Fleet page says first: the sentence, the line below it, and at most three cards. Pure, so
// that it can be tested that it never says more good than is known.
import type { Announcement, Machine, Notice } from '$lib/api/types';
import { plural } from '$lib/format/number';
import { clean, few } from '$lib/format/text';
import { age, ago, parse } from '$lib/format/time';
import {
  failedRun,
  lacksRestic,
  partialRun,
  RESTIC_NEEDED,
  URGENCY,
  type LastGood,
  type MachineState,
  type Standing,
} from './machine';
import type { GlyphName } from './run';

/** A machine with how it stands. */
export interface Standings {
  machine: Machine;
  lastGood: LastGood;
  state: MachineState;
}

/** What a card's button does. */
export type CardAct =
  | { do: 'next'; machine: Machine }
  | { do: 'open'; href: string }
  | { do: 'put-away'; noticeId: string };

/** One thing that needs a person. */
export interface Card {
  key: string;
  glyph: GlyphName;
  title: string;
  evidence: string;
  /** Words in the two that no line end may break: they are compared letter by letter. */
  unbroken?: string[];
  act: { words: string } & CardAct;
  /** Where to read more. */
  href?: string;
}

/** What needs a person: the worst, and how many more there are. */
export interface Attention {
  cards: Card[];
  more: number;
}

/** Where a machine stands that has no backup so far. */
const BEFORE_THE_FIRST: readonly Standing[] = ['uninitialised', 'unplanned', 'never'];

/** The first sentence. Of machines that cannot be read nothing is known, so none of them counts as protected. */
export function sentence(all: Standings[], unreadable = 0): string {
  const counted = all.filter((it) => it.state.standing !== 'revoked');
  const good = counted.filter((it) => it.state.isProtected).length;
  const total = counted.length + unreadable;
  if (total === 0) return 'No machines yet.';
  // As in the first minute of a manager that was off: nothing is wrong that anybody knows of.
  if (unreadable === 0 && counted.every((it) => it.state.standing === 'silent'))
    return total === 1 ? 'Nothing was heard of your machine.' : 'Nothing was heard of any machine.';
  if (good === 0) {
    const isNew =
      unreadable === 0 && counted.every((it) => BEFORE_THE_FIRST.includes(it.state.standing));
    const yet = isNew ? ' yet' : '';
    return total === 1 ? `Your machine is not protected${yet}.` : `No machine is protected${yet}.`;
  }
  if (good < total) return `${good} of ${total} machines are protected.`;
  return total === 1 ? 'Your machine is protected.' : `All ${total} machines are protected.`;
}

/** The line below the sentence where there is one machine: nothing is to be counted. */
const ALONE: Partial<Record<Standing, string>> = {
  held: 'It waits for your decision',
  damaged: 'A check found damage in its repository',
  failed: 'Its last run failed',
  refused: 'It has a plan that its agent cannot run',
  late: 'A backup was due and did not come',
  silent: 'It was not heard from',
  partial: 'Its last backup is partial',
  uninitialised: 'Its repository is not initialised',
  unplanned: 'It has no plan',
  never: 'It was never backed up',
  waiting: 'It waits for something in the way',
  asleep: 'It is asleep',
  revoked: 'It is revoked',
};

const LEDE: [Standing, (n: number) => string][] = [
  ['held', (n) => `${n} ${n === 1 ? 'waits' : 'wait'} for your decision`],
  ['damaged', (n) => `${n} ${n === 1 ? 'has' : 'have'} a damaged repository`],
  ['failed', (n) => `${n} failed`],
  ['refused', (n) => `${n} ${n === 1 ? 'has' : 'have'} a plan that the agent cannot run`],
  ['late', (n) => `${n} ${n === 1 ? 'is' : 'are'} late`],
  ['silent', (n) => `${n} ${n === 1 ? 'was' : 'were'} not heard from`],
  ['partial', (n) => `${n} ${n === 1 ? 'is' : 'are'} partial`],
  ['uninitialised', (n) => `${n} ${n === 1 ? 'is' : 'are'} not initialised`],
  ['unplanned', (n) => `${n} ${n === 1 ? 'has' : 'have'} no plan`],
  ['never', (n) => `${n} ${n === 1 ? 'was' : 'were'} never backed up`],
  ['waiting', (n) => `${n} ${n === 1 ? 'waits' : 'wait'} for something in the way`],
  ['asleep', (n) => `${n} ${n === 1 ? 'is' : 'are'} asleep`],
  ['revoked', (n) => `${n} ${n === 1 ? 'is' : 'are'} revoked`],
];

/** What needs nobody: it is told where there is room, and never summed up as what needs a look. */
const CALM_STANDINGS: readonly Standing[] = ['waiting', 'asleep', 'revoked'];

/** More than these are summed up: the line is to be read at a glance. */
const MOST_PARTS = 4;

/** The line below the sentence: what stands behind the number. */
export function lede(all: Standings[]): string {
  const busy = all.filter((it) => it.state.isBusy).length;
  const told = LEDE.map(([standing, words]) => {
    const n = all.filter((it) => it.state.standing === standing).length;
    return { standing, n, words: (all.length === 1 && ALONE[standing]) || words(n) };
  }).filter((it) => it.n > 0);
  const parts = told.slice(0, MOST_PARTS).map((it) => it.words);
  const others = told.slice(MOST_PARTS).filter((it) => !CALM_STANDINGS.includes(it.standing));
  const left = others.reduce((sum, it) => sum + it.n, 0);
  if (left > 0) parts.push(`${left} more ${left === 1 ? 'needs' : 'need'} a look`);
  const away = all.filter((it) => it.state.standing === 'good' && !it.machine.is_online).length;
  if (away > 0 && parts.length < MOST_PARTS) parts.push(`${away} protected but not connected now`);
  const first = busy > 0 ? `${plural(busy, 'run')} going or waiting. ` : '';
  const each = all.length === 1 ? 'It' : 'Each';
  if (parts.length === 0) return `${first}${each} is backed up as its plans say.`;
  const text = parts.join(', ');
  return `${first}${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** What a machine asks, with the code by which it is told from any other. */
export function asks(it: Announcement): string {
  return `${clean(it.hostname)} asks to join — code ${it.code}`;
}

/** Notices of a channel that did not take an alarm. */
const OF_CHANNELS: readonly string[] = ['channel_refused', 'channel_unreachable'];

/**
 * Notices that come after the machines whose backups do not: they explain what is already dealt with, or tell
 * of a channel and not of a backup.
 */
const CALM: readonly string[] = ['agent_behind', 'frame_invalid', 'manager_behind', ...OF_CHANNELS];

/** What needs a person and is no machine of the fleet. */
export interface Others {
  notices?: Notice[];
  /** The machines that ask to join. */
  asking?: Announcement[];
  /** The machines that back up into the store, while it is away. */
  cutOff?: Machine[];
}

/**
 * The cards, worst first. A machine has one at most. A notice ranks right after the machines that wait
 * for a decision, and a calm one after those that are not protected. Machines that ask to join wait
 * for a decision too; whoever asks is not of the fleet, so all of them have one card together. A store
 * that is away comes before the machines that failed, since it may be why.
 */
export function attention(
  all: Standings[],
  now: number,
  { notices = [], asking = [], cutOff = [] }: Others = {},
): Attention {
  const names = new Map(all.map((it) => [it.machine.id, it.machine.name]));
  const held = new Set(all.filter((it) => it.machine.hold).map((it) => it.machine.id));
  const ranked: { rank: number; at: number; card: Card }[] = [];
  for (const it of all) {
    const card = cardOf(it, now);
    const at = it.lastGood?.at ?? 0;
    if (card) ranked.push({ rank: URGENCY.indexOf(it.state.standing), at, card });
  }
  for (const notice of notices) {
    // A hold says the same with more at hand.
    if (notice.host_id && held.has(notice.host_id)) continue;
    const above: Standing = CALM.includes(notice.code) ? 'silent' : 'held';
    const rank = URGENCY.indexOf(above) + 0.5;
    ranked.push({ rank, at: 0, card: noticeCard(notice, names) });
  }
  const asked = askingCard(asking);
  if (asked) ranked.push({ rank: URGENCY.indexOf('held') + 0.25, at: 0, card: asked });
  const away = storeCard(cutOff);
  if (away) ranked.push({ rank: URGENCY.indexOf('held') + 0.75, at: 0, card: away });
  ranked.sort((a, b) => a.rank - b.rank || a.at - b.at);
  const cards = ranked.map((it) => it.card);
  return { cards: cards.slice(0, 3), more: Math.max(0, cards.length - 3) };
}

function askingCard(asking: Announcement[]): Card | undefined {
  const [first] = asking;
  if (!first) return undefined;
  const unbroken = asking.map((it) => it.code);
  const base = { key: 'asking', glyph: 'waiting' as const, unbroken };
  if (asking.length > 1) {
    const evidence = `${few(
      asking.map((it) => `${it.hostname} (${it.code})`),
      3,
    )}.`;
    const act = { words: 'Look', do: 'open' as const, href: '#/add' };
    return { ...base, title: `${asking.length} machines ask to join`, evidence, act };
  }
  const confirmed = first.is_confirmed
    ? 'Confirmed on the machine. Approve it if the code there is the same.'
    : 'Compare the code with the one on the machine, and type it there.';
  const taken = first.is_name_taken ? ' Another machine has this name already.' : '';
  const href = `#/announcements/${first.id}`;
  const act = { words: 'Decide', do: 'open' as const, href };
  return { ...base, title: asks(first), evidence: `${confirmed}${taken}`, act };
}

function storeCard(cutOff: Machine[]): Card | undefined {
  if (cutOff.length === 0) return undefined;
  const names = few(
    cutOff.map((it) => it.name),
    3,
  );
  return {
    key: 'store',
    glyph: 'failed',
    title: 'The store is away',
    evidence: `Its folder is not there: connect the disk that it lies on. Until then ${names} cannot back up to it.`,
    act: { words: 'Open the store', do: 'open', href: '#/store' },
  };
}

function noticeCard(notice: Notice, names: Map<string, string>): Card {
  const name = notice.host_id ? names.get(notice.host_id) : undefined;
  const times = notice.times > 1 ? ` Told ${notice.times} times.` : '';
  return {
    key: `notice:${notice.id}`,
    glyph: 'missed',
    title: name ? `${name}: ${notice.message}` : notice.message,
    evidence: `${notice.guidance ?? ''}${times}`.trim(),
    act: { words: 'Put away', do: 'put-away', noticeId: notice.id },
    href: OF_CHANNELS.includes(notice.code)
      ? '#/alarms'
      : notice.host_id && name
        ? `#/machines/${notice.host_id}`
        : undefined,
  };
}

/** What nothing mends as long as a machine has no restic. */
const NEEDS_RESTIC: readonly Standing[] = ['failed', 'late', 'uninitialised', 'never'];

function cardOf({ machine, lastGood, state }: Standings, now: number): Card | undefined {
  const { name } = machine;
  const href = `#/machines/${machine.id}`;
  const base = { key: `machine:${machine.id}`, glyph: state.glyph, href };
  const open = (words: string, to: string) => ({ words, do: 'open' as const, href: to });
  const next = (words: string) => ({ words, do: 'next' as const, machine });
  const kept = lastGood
    ? `The last good backup is ${age(lastGood.at, now)} old.`
    : 'There is no good backup yet.';
  // Somebody is at it already; but no run that goes on mends what is damaged.
  const isBeingMended = state.standing !== 'held' && state.standing !== 'damaged';
  if (state.isBusy && isBeingMended) return undefined;
  if (lacksRestic(machine) && NEEDS_RESTIC.includes(state.standing)) {
    return {
      ...base,
      title: `${name} has no restic that works`,
      evidence: `Install ${RESTIC_NEEDED} there, then start its agent again. ${kept}`,
      act: open('Look', href),
    };
  }
  switch (state.standing) {
    case 'held':
      return {
        ...base,
        title: `${name} waits for your decision`,
        evidence: machine.hold?.message ?? '',
        act: open('Decide', href),
      };
    case 'damaged': {
      const runId = state.damage?.runId;
      return {
        ...base,
        glyph: 'failed',
        title: `${name}: a check found damage`,
        evidence: runId
          ? 'Backups in its repository may not be restorable. The run says what was found and what to do.'
          : 'Backups in its repository may not be restorable.',
        act: runId
          ? open('See what it found', `#/runs/${runId}`)
          : open('See the repository', `${href}/settings`),
      };
    }
    case 'failed':
      return failedCard(machine, base, kept, now);
    case 'refused':
      return {
        ...base,
        title: `${name} did not get a plan`,
        evidence:
          'Its agent cannot run the hooks of the plan, and without them it would back up less than you think. Update the agent.',
        act: open('Look', href),
      };
    case 'late': {
      const why = machine.is_online
        ? 'The machine is connected and ready.'
        : 'The machine is not connected; the run waits until it is.';
      const title = `${name}: ${state.words}`;
      return { ...base, title, evidence: why, act: next('Run now') };
    }
    case 'silent':
      return {
        ...base,
        title: `${name}: ${state.words}`,
        evidence: `${kept} Is the machine off, or its agent stopped?`,
        act: open('Look', href),
      };
    case 'partial': {
      const run = partialRun(machine);
      const to = run ? `#/runs/${run.id}` : href;
      return run?.isHook
        ? {
            ...base,
            title: `${name}: a hook failed`,
            evidence: 'The newest snapshot was written; what the hook is for was not done.',
            act: open('See why', to),
          }
        : {
            ...base,
            title: `${name}: some files were unreadable`,
            evidence: 'The newest snapshot is complete without them.',
            act: open('See which', to),
          };
    }
    case 'uninitialised':
      return {
        ...base,
        title: `${name} has no repository yet`,
        evidence: 'Initialise creates it; then the first backup can run.',
        act: next('Initialise'),
      };
    case 'unplanned':
      return {
        ...base,
        title: `${name} has no plan`,
        evidence: 'Nothing of it is backed up until it gets one.',
        act: open('Assign a plan', `${href}/settings`),
      };
    case 'never':
      return {
        ...base,
        title: lastGood ? `${name}: ${state.words}` : `${name} was never backed up`,
        evidence: lastGood ? kept : 'Its repository is ready.',
        act: next('Run now'),
      };
    default:
      return undefined;
  }
}

function failedCard(
  machine: Machine,
  base: Pick<Card, 'key' | 'glyph' | 'href'>,
  kept: string,
  now: number,
): Card {
  const isInit = machine.next_action?.kind === 'init';
  const run = failedRun(machine);
  const at = parse(run?.finished_at);
  const when = at === undefined ? '' : ` ${ago(at, now)}`;
  const why = run?.code ? CAUSES[run.code] : undefined;
  const title = `${machine.name}: ${isInit ? 'initialise' : 'backup'} failed${when}`;
  const runId = machine.next_action?.run_id;
  const href = runId ? `#/runs/${runId}` : base.href;
  const evidence = [why, kept].filter(Boolean).join(' ');
  if (run?.code === 'repository_locked') {
    const settings = `#/machines/${machine.id}/settings`;
    return {
      ...base,
      title,
      evidence,
      href,
      act: { words: 'See locks', do: 'open', href: settings },
    };
  }
  // Where the newest run is another one, such as a cancelled one, there is nothing to do again.
  const words = machine.next_action?.action === 'run_now' ? 'Run now' : 'Retry';
  return { ...base, title, evidence, href, act: { words, do: 'next', machine } };
}

/** The causes that are worth a sentence before the run is opened. */
const CAUSES: Partial<Record<string, string>> = {
  repository_locked: 'The repository is locked.',
  repository_unreachable: 'The repository does not answer.',
  repository_auth: "The repository's server refuses the user or password.",
  repository_missing: 'There is no repository at its place.',
  repository_damaged: 'The repository is damaged.',
  wrong_password: 'The repository has another password.',
  certificate_unknown: "The repository server's certificate is not known.",
  disk_full: 'A disk is full.',
  store_away: 'The store is away.',
  repository_append_only: "The repository's server lets nothing be deleted.",
  source_missing: 'A path of the plan does not exist.',
  source_empty: 'There was no file to back up.',
  hook_failed: 'A hook of the plan failed.',
  hook_unknown: 'A hook of the plan is not on the machine.',
  timed_out: 'It took longer than the plan allows.',
  stalled: 'Nothing moved for too long.',
  restic_missing: 'restic is not installed there.',
  restic_too_old: 'restic there is too old.',
  interrupted: 'The machine or its agent stopped in the middle.',
  expired: 'The machine was not there in time.',
  lost: 'Nobody knows how it ended.',
  policy_forbids: "The machine's own policy forbids it.",
};
