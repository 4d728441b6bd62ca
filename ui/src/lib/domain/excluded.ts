// Which of a plan's folders its own exclude patterns leave out. Only what is certain is told: the patterns as
// restic reads them, without those whose meaning hangs on more than whole names, `*` and `?`. Pure.
import type { Preset } from '$lib/api/types';

/** A system by the server's name, and as people write it. */
const SYSTEMS = [
  ['linux', 'Linux'],
  ['darwin', 'macOS'],
  ['windows', 'Windows'],
] as const;

/** What leaves folders out. */
export interface Exclusion {
  pattern: string;
  /** Where the pattern comes from: the title of a set; without one, what is typed. */
  set?: string;
  /** The system it is for, in words, where the plan may have machines of another. */
  only?: string;
}

/** A chosen folder that is left out. */
export interface LeftOut extends Exclusion {
  path: string;
}

/** What a plan leaves out on machines of these systems; of any, where none are known. */
export function exclusions(
  typed: readonly string[],
  chosen: readonly Preset[],
  systems: readonly string[] = [],
): Exclusion[] {
  const own = typed.map((pattern) => ({ pattern }));
  const sets = chosen.flatMap(({ title: set, everywhere, ...preset }) => [
    ...everywhere.map((pattern) => ({ pattern, set })),
    ...SYSTEMS.filter(([key]) => systems.length === 0 || systems.includes(key)).flatMap(
      ([key, words]) =>
        preset[key].map((pattern) => ({
          pattern,
          set,
          only: systems.length === 1 ? undefined : words,
        })),
    ),
  ]);
  return [...own, ...sets];
}

/** The folders of which nothing is backed up, each with the first pattern that takes it. */
export function leftOut(paths: readonly string[], all: readonly Exclusion[]): LeftOut[] {
  // A later pattern of this kind takes back what an earlier one leaves out.
  if (all.some(({ pattern }) => pattern.startsWith('!'))) return [];
  return paths.flatMap((path) => {
    const by = all.find((it) => mayHold(path, it) && takes(it.pattern, path));
    return by ? [{ path, ...by }] : [];
  });
}

/** What a form says of it. */
export function leftOutWords({ path, pattern, set, only }: LeftOut): string {
  const where = only ? ` on ${only}` : '';
  const by = set ? `“${set}” leaves out ${pattern}` : `it is left out by ${pattern}`;
  return `Nothing of ${path} is backed up${where}: ${by}.`;
}

/** Whether a machine on which the pattern counts can have the path. */
function mayHold(path: string, { only }: Exclusion): boolean {
  return only === undefined || isWindows(path) === (only === 'Windows');
}

function isWindows(path: string): boolean {
  return /^([a-z]:|\\\\)/i.test(path);
}

/** Whether a pattern takes a folder, one that it is in, or all that is in it. */
function takes(pattern: string, path: string): boolean {
  const windows = isWindows(path);
  // A root without a drive is none that a path of Windows begins with.
  if (windows && /^[/\\]/.test(pattern)) return false;
  const cut = (text: string) => (windows ? text.replaceAll('\\', '/') : text).split('/');
  const isAnchored = pattern.startsWith('/');
  const names = cut(path).filter(Boolean);
  const parts = cut(pattern).filter(Boolean);
  const matchers = parts.map(matcher);
  if (parts.length === 0 || matchers.includes(undefined)) return false;
  if (names.includes('.') || names.includes('..')) return false;
  // What is called by any name stands for all that is in the folder.
  const all: (string | undefined)[] = [...names, undefined];
  const lastStart = isAnchored ? 0 : all.length - parts.length;
  for (let start = 0; start <= lastStart; start += 1) {
    const isTaken = matchers.every((matches, at) => {
      const index = start + at;
      if (index >= all.length) return false;
      const name = all[index];
      return name === undefined ? parts[at] === '*' : matches?.(name);
    });
    if (isTaken) return true;
  }
  return false;
}

/** How one part of a pattern matches a name; nothing where that is not certain. */
function matcher(part: string): ((name: string) => boolean) | undefined {
  if (part.includes('**') || /[[\]\\]/.test(part)) return undefined;
  const escaped = part.replace(/[.+^$(){}|]/g, '\\$&');
  const whole = new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`, 'u');
  return (name) => whole.test(name);
}
