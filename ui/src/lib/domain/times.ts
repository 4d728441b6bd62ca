// When a plan runs, in words and as a form offers it. Pure.

/** The times that a form offers, as the server takes them; the empty one is none. */
export const TIMES = [
  ['0 * * * *', 'Every hour'],
  ['0 */6 * * *', 'Every six hours'],
  ['0 2 * * *', 'Every night at 2'],
  ['0 13 * * *', 'Every day at 1 in the afternoon'],
  ['0 2 * * sun', 'Every Sunday at 2 in the night'],
  ['', 'By hand only'],
] as const;

/** What a new plan has. */
export const USUAL_TIMES = '0 2 * * *';

/** `runs every night at 2`, `runs at 5 4 * * *`, `runs by hand only`. */
export function timesWords(cron: string | null | undefined): string {
  const offered = TIMES.find(([times]) => times === (cron ?? ''));
  if (offered) return `runs ${offered[1].replace(/^./, (first) => first.toLowerCase())}`;
  return `runs at ${cron ?? ''}`;
}
