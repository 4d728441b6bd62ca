// The first sentence of a machine's page. Pure.
import type { Standing } from '$lib/domain/machine';

const SENTENCES: Record<Standing, string> = {
  held: 'Waits for your decision.',
  failed: 'The last run failed.',
  silent: 'Not heard from.',
  stale: 'No recent backup.',
  partial: 'Protected, except some files.',
  uninitialised: 'Its repository is not initialised yet.',
  unplanned: 'Nothing is backed up yet.',
  never: 'Never backed up.',
  unproven: 'Reading its runs.',
  revoked: 'Revoked.',
  good: 'Protected.',
};

/** How the machine stands, as a sentence. */
export function machineSentence(standing: Standing): string {
  return SENTENCES[standing];
}
