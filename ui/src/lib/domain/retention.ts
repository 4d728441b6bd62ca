// How long snapshots are kept, in words and out of form fields. Pure.
import type { Retention } from '$lib/api/types';

/** The counts that a form offers, each with its unit. */
export const KEEPS = [
  ['keep_last', 'last', 'snapshot'],
  ['keep_hourly', 'hourly', 'hour'],
  ['keep_daily', 'daily', 'day'],
  ['keep_weekly', 'weekly', 'week'],
  ['keep_monthly', 'monthly', 'month'],
  ['keep_yearly', 'yearly', 'year'],
] as const;

/** One of the counts. */
export type Keep = (typeof KEEPS)[number][0];

/** `7 days, 5 weeks`, or that everything is kept. */
export function retentionWords(retention: Retention | null | undefined): string {
  const parts: string[] = [];
  for (const [keep, , unit] of KEEPS) {
    const n = retention?.[keep];
    if (n) parts.push(`${n} ${unit}${n === 1 ? '' : 's'}`);
  }
  if (retention?.keep_within) parts.push(`all within ${retention.keep_within}`);
  return parts.length > 0 ? `keeps ${parts.join(', ')}` : 'keeps every snapshot';
}

/**
 * A retention out of typed counts; `null` keeps everything, and a text that is no count comes back
 * as the name of its field.
 */
export function readRetention(typed: Partial<Record<Keep, string>>): Retention | null | Keep {
  const retention: Retention = {};
  for (const [keep] of KEEPS) {
    const text = typed[keep]?.trim() ?? '';
    if (text === '') continue;
    if (!/^\d{1,6}$/.test(text)) return keep;
    if (Number(text) > 0) retention[keep] = Number(text);
  }
  return Object.keys(retention).length > 0 ? retention : null;
}

/** The lines of a text field that say something. */
export function lines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
}
