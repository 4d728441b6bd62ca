// Walking and choosing in a snapshot.
import { makeClient } from '$lib/api/client';
import { Problem } from '$lib/api/problem';
import { describe, expect, it } from 'vitest';
import { FakeTransport } from '../../test/fakes';
import { ordered, parent, SnapshotTree, trail } from './tree.svelte';

const PATH = '/api/repositories/r/snapshots/s/tree';

describe('a snapshot', () => {
  it('reads each folder once, and again only after a refusal', async () => {
    let isThere = false;
    const transport = new FakeTransport().on('GET', PATH, () =>
      isThere ? { body: { path: '/', entries: [], read_at: '' } } : undefined,
    );
    const tree = new SnapshotTree(makeClient(transport), 'r', 's');
    await tree.open('/');
    expect(tree.folder('/')).toBeInstanceOf(Problem);
    isThere = true;
    await tree.open('/');
    await tree.open('/');
    expect(tree.folder('/')).toMatchObject({ path: '/' });
    expect(transport.requests).toHaveLength(2);
  });

  it('takes a folder for all that is in it', () => {
    const tree = new SnapshotTree(makeClient(new FakeTransport()), 'r', 's');
    tree.toggle('/etc/hosts');
    tree.toggle('/etcetera');
    tree.toggle('/etc');
    expect([...tree.chosen].sort()).toEqual(['/etc', '/etcetera']);
    expect(tree.isCovered('/etc/ssh/key')).toBe(true);
    expect(tree.isCovered('/etcetera/x')).toBe(true);
    expect(tree.isCovered('/home')).toBe(false);
    tree.toggle('/etc/hosts');
    expect(tree.chosen.has('/etc/hosts')).toBe(false);
    tree.toggle('/etc');
    expect(tree.chosen.has('/etc')).toBe(false);
  });

  it('knows the way up and down', () => {
    expect([parent('/'), parent('/a'), parent('/a/b')]).toEqual([undefined, '/', '/a']);
    expect(trail('/a/b').map((step) => step.path)).toEqual(['/', '/a', '/a/b']);
  });

  it('shows folders first, and numbers as a person counts', () => {
    const entry = (name: string, kind: 'file' | 'dir') => ({
      name,
      kind,
      path: `/${name}`,
      can_choose: true,
      mode: '',
    });
    const all = [entry('f10', 'file'), entry('f9', 'file'), entry('z', 'dir')];
    expect(ordered(all).map((it) => it.name)).toEqual(['z', 'f9', 'f10']);
  });
});
