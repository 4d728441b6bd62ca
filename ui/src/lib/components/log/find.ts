// Finding text in a log. Pure.
import type { LogLine } from '$lib/api/types';

/** The indices of the first `count` lines that have the text, in any case. */
export function findIn(lines: LogLine[], search: string, count: number): number[] {
  const wanted = search.toLowerCase();
  if (wanted === '') return [];
  const found: number[] = [];
  for (let i = 0; i < count; i += 1) {
    if (lines[i]?.text.toLowerCase().includes(wanted)) found.push(i);
  }
  return found;
}

/** A text cut where the search is found, so that it can be marked without markup in strings. */
export function pieces(text: string, search: string): { text: string; isHit: boolean }[] {
  const wanted = search.toLowerCase();
  if (wanted === '') return [{ text, isHit: false }];
  const lower = text.toLowerCase();
  // Some letters change their length with their case: then places do not match.
  if (lower.length !== text.length) return [{ text, isHit: lower.includes(wanted) }];
  const all: { text: string; isHit: boolean }[] = [];
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    if (at > from) all.push({ text: text.slice(from, at), isHit: false });
    all.push({ text: text.slice(at, at + wanted.length), isHit: true });
    from = at + wanted.length;
  }
  if (from < text.length) all.push({ text: text.slice(from), isHit: false });
  return all;
}
