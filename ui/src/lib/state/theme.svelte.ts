// Light, dark, or as the system has it; remembered on this computer.

/** What was chosen. */
export type ThemeChoice = 'system' | 'light' | 'dark';

const KEY = 'restic-manager.theme';

/** The window's theme. */
export class Theme {
  /** What was chosen. */
  choice = $state<ThemeChoice>(read());

  /** Chooses, and remembers it. */
  choose(choice: ThemeChoice): void {
    this.choice = choice;
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // A browser may keep nothing; then the choice lasts as long as the page.
    }
    this.#apply();
  }

  /** Shows the theme, and follows the system until the returned function is called. */
  start(): () => void {
    const query = window.matchMedia('(prefers-color-scheme: dark)');
    const apply = () => this.#apply(query.matches);
    apply();
    query.addEventListener('change', apply);
    return () => query.removeEventListener('change', apply);
  }

  #apply(isDark = window.matchMedia('(prefers-color-scheme: dark)').matches): void {
    const system = isDark ? 'dark' : 'light';
    document.documentElement.dataset['theme'] = this.choice === 'system' ? system : this.choice;
  }
}

function read(): ThemeChoice {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === 'light' || stored === 'dark' ? stored : 'system';
  } catch {
    return 'system';
  }
}
