// A look is noted while it lasts and when it ends, and what it told stays told until then.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { emptyServer } from '../../test/app';
import { away, fakePlatform } from '../../test/fakes';
import { App } from './app.svelte';

const MINUTE = 60_000;
const START = Date.parse('2026-11-24T12:00:00Z');
const at = (minutes: number) => new Date(START + minutes * MINUTE).toISOString();
const tally = (failed: number) => ({ ...away().tally, failed });

let visibility: DocumentVisibilityState = 'visible';

/** A manager that knows when somebody looked, and of one failure in each of these minutes. */
function begin(failures: number[]) {
  let looked = at(-600);
  const transport = emptyServer()
    .on('GET', '/api/away', () => {
      const now = new Date().toISOString();
      const within = failures.map(at).filter((it) => it > looked && it <= now).length;
      const troubled = [{ host_id: 'm1', name: 'atlas', tally: tally(within) }];
      return {
        body: away({
          since: looked,
          until: now,
          tally: tally(within),
          troubled: within ? troubled : [],
        }),
      };
    })
    .on('POST', '/api/away/seen', (body: unknown) => {
      const { until } = body as { until: string | null };
      const to = until ?? new Date().toISOString();
      if (to > looked) looked = to;
      return { status: 204 };
    });
  const app = new App(transport, fakePlatform());
  app.hub.start();
  const stop = app.away.start();
  transport.streams[0]?.open();
  let revision = 0;
  const changed = async () => {
    transport.streams[0]?.send('change', { topic: 'run', revision: (revision += 1) });
    await vi.advanceTimersByTimeAsync(4000);
  };
  return { app, transport, stop, changed, noted: () => transport.sent('POST', '/api/away/seen') };
}

function turn(to: DocumentVisibilityState) {
  visibility = to;
  document.dispatchEvent(new Event('visibilitychange'));
}

beforeEach(() => {
  vi.useFakeTimers({ now: START });
  visibility = 'visible';
  vi.spyOn(document, 'visibilityState', 'get').mockImplementation(() => visibility);
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe('a look', () => {
  it('is noted while it lasts, and what it told stays, with what comes', async () => {
    const { app, stop, changed, noted } = begin([-300, 2]);
    await vi.advanceTimersByTimeAsync(200);
    expect(app.away.report?.tally.failed).toBe(1);
    await vi.advanceTimersByTimeAsync(MINUTE);
    expect(noted()).toHaveLength(1);
    expect(app.away.report?.tally.failed).toBe(1);

    // The manager tells of what came since the note only; the page goes on with all of it.
    await vi.advanceTimersByTimeAsync(MINUTE);
    await changed();
    expect(app.away.report).toMatchObject({ since: at(-600), tally: { failed: 2 } });
    expect(app.away.report?.troubled).toMatchObject([{ name: 'atlas', tally: { failed: 2 } }]);
    await changed();
    expect(app.away.report?.tally.failed).toBe(2);
    stop();
  });

  it('is noted at once when the page is left, and once', async () => {
    const { stop, noted } = begin([-300]);
    await vi.advanceTimersByTimeAsync(200);
    window.dispatchEvent(new Event('pagehide'));
    turn('hidden');
    expect(noted()).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(5 * MINUTE);
    expect(noted(), 'nobody looks').toHaveLength(1);
    stop();
  });

  it('that begins later tells only what came since', async () => {
    const { app, stop, noted } = begin([-300, 20]);
    await vi.advanceTimersByTimeAsync(200);
    turn('hidden');
    await vi.advanceTimersByTimeAsync(30 * MINUTE);
    turn('visible');
    await vi.advanceTimersByTimeAsync(4000);
    expect(app.away.report?.tally.failed).toBe(1);
    app.away.seen();
    expect(app.away.report).toBeUndefined();
    expect(noted()).toHaveLength(2);
    stop();
  });
});
