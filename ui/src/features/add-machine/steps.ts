// The steps of a new machine, each as it stands, out of what the server tells. Pure.
// What nobody works on and nobody waits for does not move: a step that cannot go on says so.
import type { Enrolment, Machine, Repository } from '$lib/api/types';
import { newest } from '$lib/domain/machine';
import { didNotWork, type GlyphName } from '$lib/domain/run';
import { clean } from '$lib/format/text';

/** A step. */
export interface Step {
  id: 'connected' | 'in_sync' | 'initialised' | 'backup';
  words: string;
  glyph: GlyphName;
  isDone: boolean;
  /** When it was done. */
  at?: string;
  /** Whether the machine's next action does this step. */
  isNext: boolean;
}

/** How the steps stand. A step counts as done by its own fact, not because a later one is. */
export function steps(
  enrolment: Enrolment | undefined,
  machine: Machine | undefined,
  repository: Repository | undefined,
): Step[] {
  const isConnected = machine?.is_online ?? false;
  const inSync = Boolean(machine?.in_sync && machine.acked_generation > 0);
  const initialisedAt = repository?.initialised_at ?? undefined;
  const backup = machine && newest(machine, 'backup');
  const init = machine && newest(machine, 'init');
  const good = machine?.last_good ?? undefined;
  // The server says of such a repository that a backup is next, not to initialise it again.
  const wasThere = init?.code === 'repository_exists' && machine?.next_action?.kind !== 'init';
  const hasRepository = Boolean(initialisedAt) || wasThere;
  const kind = machine?.next_action?.kind;
  const view = machine?.next_action?.action === 'view';
  const isInitOpen = view && init?.finished_at == null && init !== undefined;
  const isBackupOpen = view && backup?.finished_at == null && backup !== undefined;
  const glyph = (isDone: boolean, isOpen: boolean, hasFailed: boolean): GlyphName => {
    if (isDone) return 'ok';
    if (isOpen) return 'running';
    return hasFailed ? 'failed' : 'unknown';
  };
  return [
    {
      id: 'connected',
      ...connected(enrolment, machine),
      isDone: isConnected,
      at: enrolment?.used_at ?? undefined,
      isNext: false,
    },
    {
      id: 'in_sync',
      words: inSync ? 'Knows its plan' : 'Learns its plan',
      glyph: glyph(inSync, isConnected && !machine?.hold, false),
      isDone: inSync,
      at: machine?.acked_at ?? undefined,
      isNext: false,
    },
    {
      id: 'initialised',
      words: initialisedAt
        ? 'Repository initialised'
        : wasThere
          ? 'Repository was there already'
          : 'Initialise the repository',
      glyph: glyph(hasRepository, isInitOpen, Boolean(init && didNotWork(init.status))),
      isDone: hasRepository,
      at: initialisedAt ?? (wasThere ? (init.finished_at ?? undefined) : undefined),
      isNext: !hasRepository && inSync && (kind === 'init' || isInitOpen),
    },
    {
      id: 'backup',
      words: good
        ? good.is_partial
          ? 'First backup done, with gaps'
          : 'First backup done'
        : 'First backup',
      glyph: good?.is_partial
        ? 'partial'
        : glyph(Boolean(good), isBackupOpen, Boolean(backup && didNotWork(backup.status))),
      isDone: Boolean(good),
      at: good?.at,
      isNext: !good && hasRepository && (kind === 'backup' || isBackupOpen),
    },
  ];
}

/** How the machine's coming in stands. */
function connected(
  enrolment: Enrolment | undefined,
  machine: Machine | undefined,
): Pick<Step, 'words' | 'glyph'> {
  if (machine?.state === 'revoked') {
    return { words: 'Revoked: its key lets it in no more', glyph: 'cancelled' };
  }
  if (machine?.is_online) return { words: `Connected as ${clean(machine.hostname)}`, glyph: 'ok' };
  switch (enrolment?.state) {
    case 'used':
      return { words: 'Enrolled; waiting for its agent to connect', glyph: 'running' };
    case 'expired':
    case 'withdrawn':
      return { words: 'No machine came in', glyph: 'unknown' };
    default:
      return {
        words: 'Waiting for the machine',
        glyph: enrolment === undefined ? 'unknown' : 'running',
      };
  }
}
