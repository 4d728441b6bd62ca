// How the backups of a plan run, as a form types it. Pure.
import type { Hook as HookOfPlan, PlanOptions } from '$lib/api/types';

/** Whole numbers of the options, by the server's names: what they are called, and what holds without them. */
export const COUNTS = [
  ['limit_upload_kib', 'Upload at most (KiB/s)', 'No limit'],
  ['limit_download_kib', 'Download at most (KiB/s)', 'No limit'],
  ['read_concurrency', 'Files read at once', '2'],
  ['timeout_minutes', 'A run may take (minutes)', 'No limit'],
  ['stall_minutes', 'Give up if stuck for (minutes)', '60'],
  ['retry_lock_minutes', 'Wait for a lock (minutes)', '10 by the clock, none by hand'],
] as const;

/** What is on or off. */
export const SWITCHES = [
  [
    'one_file_system',
    'Stay on the file systems of the folders',
    'Disks and network folders that are mounted below them are left out.',
  ],
  [
    'exclude_caches',
    'Skip folders that call themselves caches',
    'Those with a CACHEDIR.TAG, which programs write into what they can make again.',
  ],
  [
    'not_on_battery',
    'Not while the machine runs on its battery',
    'What is due waits until it has power again.',
  ],
  [
    'not_metered',
    'Not over a network that is paid for by the byte',
    'What is due waits for another network.',
  ],
] as const;

/** What runs around a backup. */
export const HOOKS = [
  ['before', 'Before', 'When this fails there is no backup.'],
  ['on_success', 'After a snapshot was written', ''],
  ['on_failure', 'After a failure', ''],
  ['after', 'At the end, in any case', ''],
] as const;

export type Count = (typeof COUNTS)[number][0];
export type Switch = (typeof SWITCHES)[number][0];
export type Hook = (typeof HOOKS)[number][0];

/** The options as they are typed. */
export interface TypedOptions {
  counts: Record<Count, string>;
  switches: Record<Switch, boolean>;
  /** Names of programs on the machine. */
  hooks: Record<Hook, string>;
  /** Scripts that the plan itself brings along. */
  scripts: Record<Hook, string>;
  hookSeconds: string;
}

/** The names of all fields, as the server has them. */
export const OPTION_FIELDS: readonly string[] = [
  ...COUNTS.map(([name]) => `options.${name}`),
  ...HOOKS.map(([name]) => `options.hooks.${name}`),
  'options.hooks.timeout_seconds',
];

/** What a field says when it holds no number. */
const NUMBER_ERROR = 'It is a whole number, or empty.';

/** What a hook says when it is two. */
const BOTH_ERROR = 'It is either a name or a script; take one of them away.';

/** Options as a form shows them. */
export function typedOptions(options: PlanOptions | undefined): TypedOptions {
  const text = (value: number | string | null | undefined) => value?.toString() ?? '';
  const from = <K extends string, V>(
    rows: readonly (readonly [K, ...unknown[]])[],
    of: (key: K) => V,
  ) => Object.fromEntries(rows.map(([key]) => [key, of(key)])) as Record<K, V>;
  return {
    counts: from(COUNTS, (key) => text(options?.[key])),
    switches: from(SWITCHES, (key) => options?.[key] ?? false),
    hooks: from(HOOKS, (key) => {
      const hook = options?.hooks?.[key];
      return typeof hook === 'string' ? hook : '';
    }),
    scripts: from(HOOKS, (key) => {
      const hook = options?.hooks?.[key];
      return hook && typeof hook !== 'string' ? hook.text : '';
    }),
    hookSeconds: text(options?.hooks?.timeout_seconds),
  };
}

/** What stands in one of the fields. */
export function typedOption(typed: TypedOptions, field: string): string | undefined {
  if (field === 'options.hooks.timeout_seconds') return typed.hookSeconds;
  const hook = HOOKS.find(([name]) => field === `options.hooks.${name}`);
  if (hook) return typed.hooks[hook[0]] + typed.scripts[hook[0]];
  const count = COUNTS.find(([name]) => field === `options.${name}`);
  return count && typed.counts[count[0]];
}

/** How many of them are set. */
export function optionsSet(typed: TypedOptions): number {
  const texts = [typed.counts, typed.hooks, typed.scripts].flatMap((all) => Object.values(all));
  const set = texts.filter((text) => text.trim() !== '').length;
  return set + Object.values(typed.switches).filter(Boolean).length;
}

/** The options as the server takes them, and the fields that cannot be read, with what is wrong. */
export function readOptions(typed: TypedOptions): {
  options: PlanOptions;
  wrong: [field: string, message: string][];
} {
  const wrong: [string, string][] = [];
  const number = (field: string, text: string): number | undefined => {
    const trimmed = text.trim();
    if (trimmed === '') return undefined;
    if (/^\d{1,9}$/.test(trimmed)) return Number(trimmed);
    wrong.push([field, NUMBER_ERROR]);
    return undefined;
  };
  const options: PlanOptions = { ...typed.switches, hooks: {} };
  for (const [name] of COUNTS) {
    const value = number(`options.${name}`, typed.counts[name]);
    if (value !== undefined) options[name] = value;
  }
  const hooks = options.hooks ?? {};
  for (const [name] of HOOKS) {
    const hook = hookOf(typed.hooks[name].trim(), typed.scripts[name]);
    if (hook === 'both') wrong.push([`options.hooks.${name}`, BOTH_ERROR]);
    else if (hook) hooks[name] = hook.is;
  }
  const seconds = number('options.hooks.timeout_seconds', typed.hookSeconds);
  if (seconds !== undefined) hooks.timeout_seconds = seconds;
  return { options, wrong };
}

/** A hook by its name or with its script. */
function hookOf(name: string, script: string): { is: HookOfPlan } | 'both' | undefined {
  if (script.trim() === '') return name === '' ? undefined : { is: name };
  return name === '' ? { is: { text: script } } : 'both';
}
