// How a machine's data grew, out of its snapshots, and how the store did, out of its noted sizes. Pure.
import type { Snapshot, Store } from '$lib/api/types';
import { parse } from '$lib/format/time';

/** A point of the line. */
export interface GrowthPoint {
  at: Date;
  bytes: number;
}

const DAY = 86_400_000;
/** Days of a month, on average. */
const MONTH = 30.44;

/** What each snapshot series is told apart by: its plan, or its paths where it has none. */
function series(snapshot: Snapshot): string {
  return snapshot.tags.find((tag) => tag.startsWith('plan:')) ?? snapshot.paths.join('\n');
}

/**
 * The size of everything at the end of each day with a snapshot: the newest of every plan until then,
 * added up. Within a day the plans come one after the other, which says nothing of growth.
 */
export function growth(snapshots: Snapshot[]): GrowthPoint[] {
  const sized = snapshots
    .map((it) => ({ key: series(it), at: parse(it.time), bytes: it.size_bytes }))
    .filter((it): it is { key: string; at: number; bytes: number } => {
      return it.at !== undefined && typeof it.bytes === 'number';
    })
    .sort((a, b) => a.at - b.at);
  const latest = new Map<string, number>();
  const days = new Map<number, GrowthPoint>();
  for (const { key, at, bytes } of sized) {
    latest.set(key, bytes);
    const total = [...latest.values()].reduce((sum, value) => sum + value, 0);
    days.set(Math.floor(at / DAY), { at: new Date(at), bytes: total });
  }
  return [...days.values()];
}

/** Files in the newest snapshot of every plan; nothing where one of these does not tell. */
export function fileCount(snapshots: Snapshot[]): number | undefined {
  const newest = new Map<string, Snapshot>();
  for (const snapshot of snapshots) {
    const other = newest.get(series(snapshot));
    if (!other || other.time < snapshot.time) newest.set(series(snapshot), snapshot);
  }
  let sum = 0;
  for (const { file_count } of newest.values()) {
    if (typeof file_count !== 'number') return undefined;
    sum += file_count;
  }
  return newest.size === 0 ? undefined : sum;
}

/** Bytes a month by the straight line through the points; nothing under a week or three points. */
export function perMonth(points: GrowthPoint[]): number | undefined {
  const first = points[0];
  const last = points.at(-1);
  if (!first || !last || points.length < 3) return undefined;
  if (last.at.getTime() - first.at.getTime() < 7 * DAY) return undefined;
  const xs = points.map((point) => (point.at.getTime() - first.at.getTime()) / DAY);
  const meanX = xs.reduce((sum, x) => sum + x, 0) / xs.length;
  const meanY = points.reduce((sum, point) => sum + point.bytes, 0) / points.length;
  let over = 0;
  let under = 0;
  points.forEach((point, i) => {
    const dx = (xs[i] ?? 0) - meanX;
    over += dx * (point.bytes - meanY);
    under += dx * dx;
  });
  return under === 0 ? undefined : (over / under) * MONTH;
}

/** The noted sizes of the store, and what is in it now in place of what was noted today. */
export function storeGrowth(
  sizes: Store['sizes'],
  used: number | undefined,
  now: number,
): GrowthPoint[] {
  const noted = sizes
    .map((it) => ({ at: parse(it.at), bytes: it.bytes }))
    .filter((it): it is { at: number; bytes: number } => it.at !== undefined);
  const today = Math.floor(now / DAY);
  const past = used === undefined ? noted : noted.filter((it) => Math.floor(it.at / DAY) < today);
  const points = past.map((it) => ({ at: new Date(it.at), bytes: it.bytes }));
  return used === undefined ? points : [...points, { at: new Date(now), bytes: used }];
}

/** When so much room is filled at this rate; nothing for what does not grow. */
export function monthsUntilFull(
  perMonth: number | undefined,
  free: number | null | undefined,
): number | undefined {
  if (perMonth === undefined || perMonth <= 0 || typeof free !== 'number') return undefined;
  return free / perMonth;
}
