// Numbers with their units: tabular, short, with the narrow space that keeps both on one line.

/** Between a number and its unit. */
export const THIN = '\u202f';

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Three digits that matter, without zeros that say nothing. */
function short(value: number): string {
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  return String(Number(value.toFixed(digits)));
}

/** Bytes for a person, decimal as disks are sold: `1.92 TB`. */
export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return '—';
  const sign = value < 0 ? '−' : '';
  let rest = Math.abs(value);
  let unit = 0;
  // 999.5 would be shown as 1000.
  while (rest >= 999.5 && unit < UNITS.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  return `${sign}${unit === 0 ? Math.round(rest) : short(rest)}${THIN}${UNITS[unit]}`;
}

/** Bytes out of what a person types, such as `500 GB` or `1.5 TiB`; nothing for what is no size. */
export function readBytes(text: string): number | undefined {
  const found = /^(\d+(?:[.,]\d+)?)\s*(k|m|g|t|p)?(i)?b$/i.exec(text.trim());
  if (!found) return undefined;
  const [, amount = '', prefix = '', binary] = found;
  const power = prefix === '' ? 0 : 'kmgtp'.indexOf(prefix.toLowerCase()) + 1;
  const value = Number(amount.replace(',', '.')) * (binary ? 1024 : 1000) ** power;
  return Number.isSafeInteger(Math.round(value)) ? Math.round(value) : undefined;
}

/** Bytes a second. */
export function speed(perSecond: number): string {
  return `${bytes(perSecond)}/s`;
}

/** A whole number with separators: `604,119`. */
export function count(value: number): string {
  return value.toLocaleString('en-GB');
}

/** A count and its noun: `1 file`, `2 files`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A share in whole hundredths. Never 100 before it is whole: that would be greener than the facts. */
export function hundredths(share: number): number {
  // 0.58 × 100 is a little less than 58.
  return Math.floor(Math.min(Math.max(share, 0), 1) * 100 + 1e-9);
}

/** A share as a percentage. */
export function percent(share: number): string {
  return `${hundredths(share)}${THIN}%`;
}
