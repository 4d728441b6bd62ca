// The folders of one snapshot, read when they are opened and kept: a snapshot never changes. What is
// chosen lives here, beside the folder in sight, so that walking about loses no choice.
import { granted, type Client } from '$lib/api/client';
import { Problem } from '$lib/api/problem';
import type { TreeEntryView, TreeView } from '$lib/api/types';
import { SvelteMap, SvelteSet } from 'svelte/reactivity';

/** A snapshot's files. */
export class SnapshotTree {
  /** Paths that are chosen; a folder stands for all that is in it. */
  readonly chosen = new SvelteSet<string>();
  #folders = new SvelteMap<string, TreeView | Problem>();
  #asked = new Set<string>();

  constructor(
    private readonly client: Client,
    private readonly repositoryId: string,
    private readonly snapshotId: string,
  ) {}

  /** The folder; nothing while it is read. */
  folder(path: string): TreeView | Problem | undefined {
    return this.#folders.get(path);
  }

  /** Reads a folder, unless that was done. */
  async open(path: string): Promise<void> {
    if (this.#asked.has(path)) return;
    this.#asked.add(path);
    this.#folders.delete(path);
    try {
      const params = {
        path: { id: this.repositoryId, snapshot: this.snapshotId },
        query: { path },
      };
      const call = this.client.GET('/api/repositories/{id}/snapshots/{snapshot}/tree', { params });
      this.#folders.set(path, await granted(call));
    } catch (thrown) {
      // May be asked for again.
      this.#asked.delete(path);
      this.#folders.set(path, Problem.from(thrown));
    }
  }

  /** Whether a folder above is chosen, and this with it. */
  isCovered(path: string): boolean {
    for (let at = parent(path); at !== undefined; at = parent(at)) {
      if (this.chosen.has(at)) return true;
    }
    return false;
  }

  /** Chooses a path, or no longer. What a folder covers need not be chosen beside it. */
  toggle(path: string): void {
    if (this.isCovered(path)) return;
    if (this.chosen.delete(path)) return;
    const within = path === '/' ? '/' : `${path}/`;
    for (const other of [...this.chosen]) {
      if (other.startsWith(within)) this.chosen.delete(other);
    }
    this.chosen.add(path);
  }
}

/** The folder that a path is in. */
export function parent(path: string): string | undefined {
  if (path === '/') return undefined;
  const cut = path.lastIndexOf('/');
  return cut <= 0 ? '/' : path.slice(0, cut);
}

/** The folders from the root down to a path, each with its own path. */
export function trail(path: string): { name: string; path: string }[] {
  const parts = path.split('/').filter(Boolean);
  const all = [{ name: 'All files', path: '/' }];
  parts.forEach((name, i) => all.push({ name, path: `/${parts.slice(0, i + 1).join('/')}` }));
  return all;
}

/** Folders first, then by name, as a person looks for them. */
export function ordered(entries: TreeEntryView[]): TreeEntryView[] {
  const rank = (entry: TreeEntryView) => (entry.kind === 'dir' ? 0 : 1);
  const byName = new Intl.Collator('en', { numeric: true }).compare;
  return entries.toSorted((a, b) => rank(a) - rank(b) || byName(a.name, b.name));
}
