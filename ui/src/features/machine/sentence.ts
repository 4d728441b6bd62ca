// The first sentence of a machine's page. Pure.
import type { MachineState, Standing } from '$lib/domain/machine';

const SENTENCES: Record<Standing, string> = {
  held: 'Waits for your decision.',
  damaged: 'A check found damage.',
  failed: 'The last run failed.',
  silent: 'Not heard from.',
  late: 'A backup is late.',
  refused: 'It did not get a plan.',
  partial: 'Protected, but its last backup is partial.',
  uninitialised: 'Its repository is not initialised yet.',
  unplanned: 'Nothing is backed up yet.',
  never: 'Not backed up yet.',
  revoked: 'Revoked.',
  waiting: 'Protected. Its next backup waits.',
  asleep: 'Protected, and asleep.',
  good: 'Protected.',
};

/** How the machine stands, as a sentence. */
export function machineSentence({ standing, isBusy, isProtected, glyph }: MachineState): string {
  const own = SENTENCES[standing];
  if (!isBusy || standing === 'held' || standing === 'revoked') return own;
  const words = { running: 'A run is going.', waiting: 'A run is waiting.' } as const;
  const going = glyph === 'running' || glyph === 'waiting' ? words[glyph] : 'No contact in a run.';
  // What a run does not change is said as well.
  return isProtected || standing === 'damaged' ? `${own} ${going}` : going;
}
