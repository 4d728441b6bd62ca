// Who is signed in. On the desktop that is always the local user; over HTTPS it ends, and whatever
// page is open stays beneath the sign-in with all that was typed into it.
import { granted, type Client } from '$lib/api/client';
import { Problem } from '$lib/api/problem';

/** The window's session. */
export class SessionState {
  /** Unknown until the server was asked. */
  status = $state<'unknown' | 'in' | 'out'>('unknown');
  /** Why the server could not be asked. */
  problem = $state.raw<Problem>();
  /** Whether there has been a session in this window: then its page is kept. */
  wasIn = $state(false);

  constructor(private readonly client: Client) {}

  /** Asks the server. */
  async load(): Promise<void> {
    try {
      const session = await granted(this.client.GET('/api/session'));
      this.problem = undefined;
      this.#enter(session.signed_in);
    } catch (thrown) {
      this.problem = Problem.from(thrown);
    }
  }

  /** Signs in; throws the problem when it is refused. */
  async signIn(password: string): Promise<void> {
    const session = await granted(this.client.POST('/api/session', { body: { password } }));
    this.#enter(session.signed_in);
  }

  /** Signs out. */
  async signOut(): Promise<void> {
    await granted(this.client.DELETE('/api/session'));
    // What this session showed is not for whoever comes next.
    this.wasIn = false;
    this.status = 'out';
  }

  /** The server said that the session is over. */
  expired(): void {
    if (this.status === 'in') this.status = 'out';
  }

  #enter(isIn: boolean): void {
    this.status = isIn ? 'in' : 'out';
    if (isIn) this.wasIn = true;
  }
}
