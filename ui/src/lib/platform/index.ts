// What only the surroundings can do: the desktop window more, a browser less.
import { isDesktop } from '$lib/api/transport';

/** What is there, so that no button promises what cannot be done. */
export interface Capabilities {
  /** Whether there is an app to quit, beyond closing the window. */
  quit: boolean;
  /** Whether there is a session to sign out of. */
  signOut: boolean;
}

/** The native verbs. */
export interface Platform {
  readonly capabilities: Capabilities;
  /** Puts text on the clipboard. */
  copy(text: string): Promise<void>;
  /** Gives the person a text file. */
  saveText(name: string, text: string): Promise<void>;
  /** Ends the app. */
  quit(): Promise<void>;
}

/** Loads the platform that fits where the page runs. */
export async function choosePlatform(): Promise<Platform> {
  if (isDesktop()) return new (await import('./tauri')).TauriPlatform();
  return new (await import('./browser')).BrowserPlatform();
}
