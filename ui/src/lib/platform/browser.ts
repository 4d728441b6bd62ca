// The platform of a browser.
import type { Platform } from './index';

/** What a browser can do. */
export class BrowserPlatform implements Platform {
  readonly capabilities = { quit: false, signOut: true };

  async copy(text: string): Promise<void> {
    await navigator.clipboard.writeText(text);
  }

  async saveText(name: string, text: string): Promise<void> {
    const url = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
    const link = document.createElement('a');
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  async quit(): Promise<void> {
    throw new Error('a browser closes its own windows');
  }
}
