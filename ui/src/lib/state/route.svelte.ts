// Where in the app the window is: the part of the address after `#`, which works alike over HTTPS
// and inside the desktop window.

/** The places there are. */
export type Route =
  | { view: 'fleet' }
  | { view: 'add' }
  | { view: 'announcement'; id: string }
  | { view: 'machine'; id: string; tab: MachineTab; rest: string[] }
  | { view: 'plans' }
  | { view: 'plan'; id?: string }
  | { view: 'alarms' }
  | { view: 'channel'; id?: string }
  | { view: 'activity' }
  | { view: 'run'; id: string }
  | { view: 'store' }
  | { view: 'settings' }
  | { view: 'unknown' };

/** The parts of a machine's page. */
export type MachineTab = 'overview' | 'snapshots' | 'runs' | 'settings';

const TABS: readonly string[] = ['overview', 'snapshots', 'runs', 'settings'];

/** Reads a place out of an address. */
export function parseRoute(hash: string): Route {
  const path = hash.replace(/^#?\/?/, '').split('?')[0] ?? '';
  const [view = '', id, tab = 'overview', ...rest] = path.split('/').map(decode);
  if (view === '') return { view: 'fleet' };
  if (view === 'add' || view === 'activity' || view === 'store' || view === 'settings') {
    return { view };
  }
  if (view === 'plans') {
    if (!id) return { view };
    return id === 'new' ? { view: 'plan' } : { view: 'plan', id };
  }
  if (view === 'alarms') {
    if (!id) return { view };
    return id === 'new' ? { view: 'channel' } : { view: 'channel', id };
  }
  if (view === 'announcements' && id) return { view: 'announcement', id };
  if (view === 'runs' && id) return { view: 'run', id };
  if (view === 'machines' && id && TABS.includes(tab)) {
    return { view: 'machine', id, tab: tab as MachineTab, rest };
  }
  return { view: 'unknown' };
}

/** Goes somewhere. */
export function go(href: string): void {
  window.location.hash = href;
}

/** The window's place. */
export class Router {
  /** Where it is. */
  route = $state.raw<Route>(parseRoute(window.location.hash));

  /** Follows the address until the returned function is called. */
  start(): () => void {
    const onChange = () => (this.route = parseRoute(window.location.hash));
    window.addEventListener('hashchange', onChange);
    onChange();
    return () => window.removeEventListener('hashchange', onChange);
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
