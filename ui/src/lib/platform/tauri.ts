// The platform of the desktop window. What it asks of the shell: `copy_text { text }`, `quit`, and
// `save_text { name, text }`, which asks the person where to.
import { invoke } from '@tauri-apps/api/core';
import type { Platform } from './index';

/** What the desktop can do. */
export class TauriPlatform implements Platform {
  readonly capabilities = { quit: true, signOut: false };

  copy(text: string): Promise<void> {
    return invoke('copy_text', { text });
  }

  async saveText(name: string, text: string): Promise<void> {
    await invoke('save_text', { name, text });
  }

  quit(): Promise<void> {
    return invoke('quit');
  }
}
