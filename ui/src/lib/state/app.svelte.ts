// Everything that lives as long as the window, put together once and handed down by context.
import { makeClient, type Client } from '$lib/api/client';
import { EventHub, type HubState } from '$lib/api/events';
import type { Transport } from '$lib/api/transport';
import type { Platform } from '$lib/platform';
import { createContext } from 'svelte';
import { Actions } from './actions.svelte';
import { Away } from './away.svelte';
import { Clock } from './clock.svelte';
import { Fleet } from './fleet.svelte';
import { Live, type LiveOptions } from './live.svelte';
import { News } from './news.svelte';
import { Router } from './route.svelte';
import { SessionState } from './session.svelte';
import { Theme } from './theme.svelte';
import { Toasts } from './toasts.svelte';

/** The window's state. */
export class App {
  /** How the subscription to the server stands. */
  connection = $state<HubState>('connecting');
  /** Whether the command palette is open. */
  isPaletteOpen = $state(false);
  /** Whether g was pressed, and the next key says where to go. */
  isLeading = false;
  /** Whether the sheet of shortcuts is open. */
  isSheetOpen = $state(false);

  readonly #kept = new Map<string, unknown>();

  readonly client: Client;
  readonly hub: EventHub;
  readonly clock = new Clock();
  readonly theme = new Theme();
  readonly toasts = new Toasts();
  readonly router = new Router();
  readonly session: SessionState;
  readonly fleet: Fleet;
  readonly actions: Actions;
  readonly news: News;
  readonly away: Away;

  constructor(
    readonly transport: Transport,
    readonly platform: Platform,
  ) {
    const guarded: Transport = {
      request: async (method, path, body, isLast) => {
        const answer = await transport.request(method, path, body, isLast);
        if (answer.status === 401) this.session.expired();
        return answer;
      },
      stream: (path, onEvent, signal) => transport.stream(path, onEvent, signal),
    };
    this.client = makeClient(guarded);
    this.session = new SessionState(this.client);
    this.hub = new EventHub(
      transport,
      (state) => (this.connection = state),
      (problem) => {
        if (problem.code === 'unauthenticated') this.session.expired();
      },
    );
    this.fleet = new Fleet(this.hub, this.client, this.clock);
    this.actions = new Actions(this.client, this.fleet, this.toasts);
    this.away = new Away(this.hub, this.client, guarded);
    this.news = new News(this.hub, this.client, this.router, this.toasts);
  }

  /** Signs out. What was typed and shown is not for whoever comes next. */
  async signOut(): Promise<void> {
    await this.session.signOut();
    this.#kept.clear();
  }

  /** Something that outlives its page, such as what was typed into a long form. */
  keep<T>(name: string, make: () => T): T {
    if (!this.#kept.has(name)) this.#kept.set(name, make());
    return this.#kept.get(name) as T;
  }

  /** Copies text; says so when that is not possible. */
  async copy(text: string, what: string): Promise<boolean> {
    try {
      await this.platform.copy(text);
      return true;
    } catch {
      this.toasts.show({
        tone: 'bad',
        title: `The ${what} could not be copied.`,
        body: 'Select it and copy it by hand.',
      });
      return false;
    }
  }
}

/** Reads the window's state, and provides it. */
export const [useApp, provideApp] = createContext<App>();

/** A live thing that is kept fresh as long as the component is there. */
export function useLive<T>(options: LiveOptions<T>): Live<T> {
  const live = new Live<T>(useApp().hub, options);
  $effect(() => live.start());
  return live;
}
