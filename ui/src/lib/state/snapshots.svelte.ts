// The snapshots of one machine: those of its repositories that were taken on it, newest first.
import { granted, type Client } from '$lib/api/client';
import type { EventHub } from '$lib/api/events';
import type { Machine, Snapshot } from '$lib/api/types';
import { Live } from './live.svelte';

/** A snapshot with where it is. */
export interface PlacedSnapshot extends Snapshot {
  repositoryId: string;
}

/** What was read. */
export interface MachineSnapshots {
  snapshots: PlacedSnapshot[];
  /** When the repositories were read: the oldest of these times; nothing before the first reading. */
  readAt: string | undefined;
}

const PAGE = 500;
/** More than a person looks through; the rest is counted. */
const MOST = 5000;

/** Makes the live list of a machine's snapshots. */
export function machineSnapshots(
  hub: EventHub,
  client: Client,
  machine: () => Machine | undefined,
): Live<MachineSnapshots> {
  return new Live<MachineSnapshots>(hub, {
    gapMs: 800,
    wants: (change) =>
      change.topic === 'repository' &&
      (machine()?.repository_ids.includes(change.id ?? '') ?? false),
    read: async () => {
      const it = machine();
      if (!it) return { snapshots: [], readAt: undefined };
      const parts = await Promise.all(it.repository_ids.map((id) => ofRepository(client, id)));
      const snapshots = parts
        .flatMap((part) => part.snapshots)
        .filter((snapshot) => snapshot.hostname === it.hostname || hasPlan(snapshot, it))
        .sort((a, b) => b.time.localeCompare(a.time));
      const times = parts.map((part) => part.readAt).filter((time) => time !== undefined);
      return { snapshots, readAt: times.sort()[0] };
    },
  });
}

/** A machine that changed its name since is told by the tags that its plans leave. */
function hasPlan(snapshot: Snapshot, machine: Machine): boolean {
  return (
    snapshot.hostname === machine.name &&
    snapshot.tags.some((tag) => machine.plan_ids.some((id) => tag === `plan:${id}`))
  );
}

/** All snapshots of a repository, of whatever machine. */
export async function ofRepository(client: Client, id: string): Promise<MachineSnapshots> {
  const all: PlacedSnapshot[] = [];
  for (let offset = 0; offset < MOST; offset += PAGE) {
    const params = { path: { id }, query: { offset, limit: PAGE } };
    const page = await granted(client.GET('/api/repositories/{id}/snapshots', { params }));
    all.push(...page.snapshots.map((snapshot) => ({ ...snapshot, repositoryId: id })));
    if (all.length >= page.total || page.snapshots.length === 0) {
      return { snapshots: all, readAt: page.read_at ?? undefined };
    }
  }
  return { snapshots: all, readAt: undefined };
}
