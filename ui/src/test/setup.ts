// What every component test needs: the matchers, and what jsdom lacks.
import '@testing-library/jest-dom/vitest';
import { vi } from 'vitest';

class NoResizeObserver {
  observe() {}
  unobserve() {}
  disconnect() {}
}

vi.stubGlobal('ResizeObserver', NoResizeObserver);
window.matchMedia ??= ((query: string) => ({
  matches: false,
  media: query,
  addEventListener: () => {},
  removeEventListener: () => {},
})) as unknown as typeof window.matchMedia;
Element.prototype.scrollIntoView ??= () => {};
