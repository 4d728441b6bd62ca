// What became of the times at which plans should have run: the strip of days, and what happened while
// nobody looked. Pure.
import type { Away, SlotStanding, Strip } from '$lib/api/types';
import { count, plural } from '$lib/format/number';
import type { GlyphName } from './run';

/** How a day or a slot is drawn. */
export type StripMark =
  'ran' | 'partial' | 'failed' | 'missed' | 'asleep' | 'waiting' | 'unknown' | 'running' | 'none';

interface Look {
  mark: StripMark;
  glyph: GlyphName;
  /** After a number: `2 failed`. */
  words: string;
}

const LOOKS: Record<SlotStanding, Look> = {
  due: { mark: 'none', glyph: 'waiting', words: 'due' },
  running: { mark: 'running', glyph: 'running', words: 'running' },
  ran: { mark: 'ran', glyph: 'ok', words: 'ran' },
  covered: { mark: 'ran', glyph: 'ok', words: 'made up for later' },
  asleep: { mark: 'asleep', glyph: 'asleep', words: 'asleep or off' },
  skipped: { mark: 'waiting', glyph: 'waiting', words: 'put off by the plan' },
  waiting: { mark: 'waiting', glyph: 'waiting', words: 'waited for the repository' },
  unknown: { mark: 'unknown', glyph: 'unknown', words: 'not heard of yet' },
  cancelled: { mark: 'unknown', glyph: 'cancelled', words: 'cancelled' },
  partial: { mark: 'partial', glyph: 'partial', words: 'partial' },
  interrupted: { mark: 'failed', glyph: 'failed', words: 'interrupted' },
  missed: { mark: 'missed', glyph: 'missed', words: 'missed' },
  failed: { mark: 'failed', glyph: 'failed', words: 'failed' },
};

const UNKNOWN: Look = LOOKS.unknown;

/** How a slot is drawn and called; what a newer server calls it is not known. */
export function slotLook(standing: SlotStanding): Look {
  return LOOKS[standing] ?? UNKNOWN;
}

/** One day of a strip. */
export interface StripDay {
  /** `2026-11-29`, in the machine's time zone. */
  date: string;
  mark: StripMark;
  /** `Sun 29 Nov: 23 ran, 1 failed`. */
  words: string;
}

const DAY_MS = 24 * 3_600_000;

/** The day in words: `Sun 29 Nov`. */
export function dayWords(date: string): string {
  const day = { weekday: 'short', day: 'numeric', month: 'short', timeZone: 'UTC' } as const;
  return new Date(`${date}T00:00:00Z`).toLocaleDateString('en-GB', day).replace(',', '');
}

/** The days of a strip, the last one today. */
export function stripDays(strip: Strip): StripDay[] {
  const first = Date.parse(`${strip.first}T00:00:00Z`);
  return strip.days.map((counts, i) => {
    const date = new Date(first + i * DAY_MS).toISOString().slice(0, 10);
    const worst = counts[0];
    const told = counts.map((it) => `${it.count} ${slotLook(it.standing).words}`);
    const words = `${dayWords(date)}: ${told.length > 0 ? told.join(', ') : 'nothing was due'}`;
    return { date, mark: worst ? slotLook(worst.standing).mark : 'none', words };
  });
}

/** What a strip shows, for those who do not see it. */
export function stripWords(days: readonly StripDay[]): string {
  const told = days.filter((day) => day.mark !== 'none');
  if (told.length === 0) return 'Nothing was due in the last 30 days';
  const good = told.filter((day) => day.mark === 'ran').length;
  const rest = told.filter((day) => day.mark !== 'ran' && day.mark !== 'running');
  const newest = rest.slice(-3).reverse();
  const words = `${good} of ${plural(told.length, 'day')} all went well`;
  if (newest.length === 0) return words;
  const more =
    rest.length > newest.length ? `, and ${plural(rest.length - newest.length, 'day')} more` : '';
  return `${words}. ${newest.map((day) => day.words).join('. ')}${more}`;
}

/** Two reports of which the second begins where the first ends, as one. */
export function joined(first: Away, second: Away): Away {
  const machines = new Map(first.troubled.map((it) => [it.host_id, it]));
  for (const it of second.troubled) {
    const before = machines.get(it.host_id);
    machines.set(it.host_id, before ? { ...it, tally: sum(before.tally, it.tally) } : it);
  }
  return {
    since: first.since,
    until: second.until,
    tally: sum(first.tally, second.tally),
    troubled: [...machines.values()].toSorted(
      (a, b) => b.tally.failed - a.tally.failed || trouble(b.tally) - trouble(a.tally),
    ),
  };
}

const trouble = (tally: Away['tally']) =>
  tally.partial + tally.failed + tally.interrupted + tally.missed;

function sum(a: Away['tally'], b: Away['tally']): Away['tally'] {
  return {
    succeeded: a.succeeded + b.succeeded,
    partial: a.partial + b.partial,
    failed: a.failed + b.failed,
    interrupted: a.interrupted + b.interrupted,
    cancelled: a.cancelled + b.cancelled,
    missed: a.missed + b.missed,
  };
}

/** Whether there is anything to tell of the time in which nobody looked. */
export function isNews(away: Away): boolean {
  const { succeeded, partial, failed, interrupted, cancelled, missed } = away.tally;
  return Boolean(away.since) && succeeded + partial + failed + interrupted + cancelled + missed > 0;
}

const missedWords = (n: number) => `${plural(n, 'time')} nothing ran although it should have`;

/** How runs ended, what went well first: `57 fine, 1 partial, 2 failed`. */
function ends(tally: Away['tally']): string {
  const parts: [number, string][] = [
    [tally.succeeded, 'fine'],
    [tally.cancelled, 'cancelled'],
    [tally.partial, 'partial'],
    [tally.interrupted, 'interrupted'],
    [tally.failed, 'failed'],
  ];
  const told = parts.filter(([n]) => n > 0);
  return told.map(([n, words]) => `${count(n)} ${words}`).join(', ');
}

/** What happened on one machine that had trouble. */
export function troubleWords(tally: Away['tally']): string {
  const missed = tally.missed > 0 ? missedWords(tally.missed) : '';
  return [ends(tally), missed].filter(Boolean).join('; ');
}

/** What happened since the last look, as the end of a sentence that begins with "Since then". */
export function awayWords(tally: Away['tally']): string {
  const { succeeded, cancelled, partial, interrupted, failed, missed } = tally;
  const runs = succeeded + cancelled + partial + interrupted + failed;
  const told =
    succeeded === runs
      ? `${plural(runs, 'run')}, all fine`
      : `${plural(runs, 'run')}: ${ends(tally)}`;
  const parts = [runs > 0 ? told : '', missed > 0 ? missedWords(missed) : ''];
  return `${parts.filter(Boolean).join('; ')}.`;
}
