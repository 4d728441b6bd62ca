// The time, ticking, so that relative times never go stale.

/** The window's clock. */
export class Clock {
  /** Milliseconds since 1970; moves on once a second. */
  now = $state(Date.now());

  /** Ticks until the returned function is called. */
  start(): () => void {
    const timer = setInterval(() => (this.now = Date.now()), 1000);
    // After sleep the first tick may be far away.
    const onVisible = () => (this.now = Date.now());
    document.addEventListener('visibilitychange', onVisible);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', onVisible);
    };
  }
}
