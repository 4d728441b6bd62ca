// In which order, and which of them, the fleet's rows are shown. Pure.
import type { Standings } from '$lib/domain/attention';
import { parse } from '$lib/format/time';
import { URGENCY } from '$lib/domain/machine';

/** The columns that rows can be ordered by. */
export type SortBy = 'name' | 'backup' | 'next' | 'state' | 'size';

/** An order. */
export interface Sort {
  by: SortBy;
  isDescending: boolean;
}

/** Rows whose machine's name, own name or state has all the words. */
export function narrow(all: Standings[], typed: string): Standings[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return all;
  return all.filter(({ machine, state }) => {
    const text = [machine.name, machine.hostname, machine.os, machine.arch, state.words].join(' ');
    return words.every((word) => text.toLowerCase().includes(word));
  });
}

/** The rows in order; equal ones by name. */
export function sorted(
  all: Standings[],
  sort: Sort,
  size: (row: Standings) => number | undefined,
): Standings[] {
  const value = (row: Standings): number => {
    if (sort.by === 'backup') return row.lastGood?.at ?? 0;
    if (sort.by === 'next') return parse(row.machine.next_at) ?? Number.MAX_SAFE_INTEGER;
    if (sort.by === 'size') return size(row) ?? -1;
    return URGENCY.indexOf(row.state.standing);
  };
  const sign = sort.isDescending ? -1 : 1;
  const byName = (a: Standings, b: Standings) => a.machine.name.localeCompare(b.machine.name, 'en');
  if (sort.by === 'name') return all.toSorted((a, b) => sign * byName(a, b));
  return all.toSorted((a, b) => sign * (value(a) - value(b)) || byName(a, b));
}
