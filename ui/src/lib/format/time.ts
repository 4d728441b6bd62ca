// Points in time and spans for a person. Pure: the clock is passed in, and so the words can tick.
import { THIN } from './number';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Milliseconds of the server's timestamp; `undefined` for none, or one that is not a time. */
export function parse(timestamp: string | null | undefined): number | undefined {
  if (!timestamp) return undefined;
  const ms = Date.parse(timestamp);
  return Number.isNaN(ms) ? undefined : ms;
}

/** `3 h ago`, `in 20 min`, `12 March`: how far a time is from now. */
export function relative(then: number, now: number): string {
  const away = Math.abs(now - then);
  if (away < 45 * SECOND) return 'just now';
  const isPast = then <= now;
  const words = (text: string) => (isPast ? `${text} ago` : `in ${text}`);
  const unit = (size: number, name: string) => `${Math.max(1, Math.round(away / size))}${name}`;
  if (away < 59.5 * MINUTE) return words(unit(MINUTE, `${THIN}min`));
  if (away < 23.5 * HOUR) return words(unit(HOUR, `${THIN}h`));
  const days = Math.round(away / DAY);
  if (days === 1) return isPast ? 'yesterday' : 'tomorrow';
  if (days <= 13) return words(`${days} days`);
  return date(then, now);
}

/** How long ago something happened. A clock elsewhere may be ahead; what has happened is not to come for that. */
export function ago(then: number, now: number): string {
  return relative(Math.min(then, now), now);
}

/** The day, with its year when it is not this one. */
export function date(then: number, now: number): string {
  const isThisYear = new Date(then).getFullYear() === new Date(now).getFullYear();
  const year = isThisYear ? undefined : 'numeric';
  return new Date(then).toLocaleDateString('en-GB', { day: 'numeric', month: 'long', year });
}

/** Everything: `Tuesday 24 November 2026, 14:02:11`. */
export function absolute(then: number): string {
  return new Date(then).toLocaleString('en-GB', { dateStyle: 'full', timeStyle: 'medium' });
}

/** Day and minute, for lists: `24 November 2026, 14:02`. */
export function moment(then: number): string {
  const day = new Date(then).toLocaleDateString('en-GB', { dateStyle: 'long' });
  return `${day}, ${clock(then).slice(0, 5)}`;
}

/** So far ahead a day and its month are not enough. */
const FAR = 300 * DAY;

/**
 * `Mon 30 Nov, 02:00` out of a time with its distance from UTC: as the clock there shows it. What is most of a
 * year away has its year too.
 */
export function wall(timestamp: string, now = Infinity): string {
  const shown = new Date(`${timestamp.slice(0, 19)}Z`);
  const year = shown.getTime() - now > FAR ? 'numeric' : undefined;
  const day = { weekday: 'short', day: 'numeric', month: 'short', year, timeZone: 'UTC' } as const;
  return `${shown.toLocaleDateString('en-GB', day).replace(',', '')}, ${timestamp.slice(11, 16)}`;
}

/**
 * When something comes, as people say it: `in 20 min`, `today, 14:00`, `tomorrow, 02:00`, `Thu, 02:00`,
 * `Sun 6 Dec, 02:00`. The time has its distance from UTC, and the day is that of the clock there.
 */
export function coming(timestamp: string, now: number): string {
  const at = parse(timestamp);
  if (at === undefined) return '';
  if (at - now < 45 * SECOND) return 'now';
  if (at - now < HOUR) return relative(at, now);
  const shown = Date.parse(`${timestamp.slice(0, 19)}Z`);
  const day = (wall: number) => Math.floor(wall / DAY);
  const days = day(shown) - day(now + shown - at);
  const time = timestamp.slice(11, 16);
  if (days <= 0) return `today, ${time}`;
  if (days === 1) return `tomorrow, ${time}`;
  return days < 7 ? `${wall(timestamp).slice(0, 3)}, ${time}` : wall(timestamp, now);
}

/** The time of day to the second. */
export function clock(then: number): string {
  return new Date(then).toLocaleTimeString('en-GB');
}

/** How long something took: `9 s`, `11 min 04 s`, `2 h 05 min`. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / SECOND));
  const two = (value: number) => String(value).padStart(2, '0');
  if (seconds < 1) return `under 1${THIN}s`;
  if (seconds < 60) return `${seconds}${THIN}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}${THIN}min ${two(seconds % 60)}${THIN}s`;
  return `${Math.floor(minutes / 60)}${THIN}h ${two(minutes % 60)}${THIN}min`;
}

/** What is left, roughly: `12 min`, `40 s`, `3 h`, `2 days`. */
export function left(seconds: number): string {
  if (seconds < 60) return `${Math.max(1, Math.ceil(seconds))}${THIN}s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)}${THIN}min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)}${THIN}h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** How long ago in words that stand inside a sentence: `3 h`, `4 days`. */
export function age(then: number, now: number): string {
  return left(Math.max(0, now - then) / 1000);
}
