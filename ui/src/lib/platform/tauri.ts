// The platform of the desktop window. What it asks of the shell: `copy_text { text }`,
// `open_folder { path }`, and `save_text { name, text }`, which asks the person where to.
import { invoke } from '@tauri-apps/api/core';
import type { Platform } from './index';

/** What the desktop can do. */
export class TauriPlatform implements Platform {
  readonly capabilities = { openFolder: true, signOut: false };

  copy(text: string): Promise<void> {
    return invoke('copy_text', { text });
  }

  openFolder(path: string): Promise<void> {
    return invoke('open_folder', { path });
  }

  saveText(name: string, text: string): Promise<void> {
    return invoke('save_text', { name, text });
  }
}
