// What the palette can do and where it can go, as data.
import type { App } from '$lib/state/app.svelte';
import { ACTION_WORDS } from '$lib/state/actions.svelte';
import { go } from '$lib/state/route.svelte';

/** A line of the palette. */
export interface Command {
  id: string;
  group: 'Go to' | 'Machines' | 'Do';
  words: string;
  /** Said at the right. */
  hint?: string;
  run: () => void;
}

/** So many machines are offered at once. */
const MOST = 8;

/** The commands whose words contain all that was typed, in a stable order. */
export function commands(app: App, typed: string): Command[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (command: Command) => {
    const text = `${command.words} ${command.group}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const machines = machineCommands(app).filter(fits);
  const open = machines.filter((it) => it.group === 'Machines').slice(0, MOST);
  const act = words.length === 0 ? [] : machines.filter((it) => it.group === 'Do').slice(0, MOST);
  return [...placeCommands().filter(fits), ...open, ...act, ...ownCommands(app).filter(fits)];
}

function placeCommands(): Command[] {
  const place = (words: string, href: string, hint?: string): Command => {
    return { id: href, group: 'Go to', words, hint, run: () => go(href) };
  };
  return [
    place('Fleet', '#/', 'g f'),
    place('Plans', '#/plans', 'g p'),
    place('Activity', '#/activity', 'g a'),
    place('Alarms', '#/alarms'),
    place('Store', '#/store'),
    place('Settings', '#/settings', 'g s'),
    place('Add machine', '#/add'),
    place('New plan', '#/plans/new'),
    place('New alarm channel', '#/alarms/new'),
  ];
}

function machineCommands(app: App): Command[] {
  return app.fleet.standings.flatMap(({ machine, state }) => {
    const open: Command = {
      id: `open:${machine.id}`,
      group: 'Machines',
      words: machine.name,
      hint: state.words,
      run: () => go(`#/machines/${machine.id}`),
    };
    const next = machine.next_action;
    if (!next) return [open];
    const verb = next.action === 'view' ? 'View the run of' : ACTION_WORDS[next.action];
    const act: Command = {
      id: `act:${machine.id}`,
      group: 'Do',
      words: `${verb}: ${machine.name}`,
      run: () => void app.actions.doNext(machine, 'always'),
    };
    return [open, act];
  });
}

function ownCommands(app: App): Command[] {
  const theme = (choice: 'light' | 'dark' | 'system', words: string): Command => {
    return { id: `theme:${choice}`, group: 'Do', words, run: () => app.theme.choose(choice) };
  };
  const all: Command[] = [
    theme('light', 'Theme: light'),
    theme('dark', 'Theme: dark'),
    theme('system', 'Theme: as the system'),
    {
      id: 'sheet',
      group: 'Do',
      words: 'Show keyboard shortcuts',
      hint: '?',
      run: () => (app.isSheetOpen = true),
    },
  ];
  if (app.platform.capabilities.signOut) {
    const run = () => void app.signOut().catch((thrown) => app.toasts.fail(thrown));
    all.push({ id: 'sign-out', group: 'Do', words: 'Sign out', run });
  }
  if (app.platform.capabilities.quit) {
    const run = () => void app.platform.quit().catch((thrown) => app.toasts.fail(thrown));
    all.push({ id: 'quit', group: 'Do', words: 'Quit Restic Manager', run });
  }
  return all;
}
