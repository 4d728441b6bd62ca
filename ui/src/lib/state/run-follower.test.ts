// A followed run: late, lagging or broken off, it shows every line once, and the right end.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeTransport, run } from '../../test/fakes';
import { RunFollower } from './run-follower.svelte';

const line = (seq: number) => ({
  seq,
  ts: '2026-11-24T12:00:00Z',
  stream: 'stdout',
  text: `line ${seq}`,
});
const lines = (from: number, to: number) => ({
  lines: Array.from({ length: to - from + 1 }, (_, i) => line(from + i)),
});

describe('a followed run', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
  afterEach(() => void vi.useRealTimers());

  function make() {
    const transport = new FakeTransport();
    const follower = new RunFollower(transport, 'x1');
    const stop = follower.start();
    const stream = () => transport.streams.at(-1) as (typeof transport.streams)[number];
    const settle = (ms = 100) => vi.advanceTimersByTimeAsync(ms);
    const seqs = () => follower.lines.map((it) => it.seq);
    return { transport, follower, stop, stream, settle, seqs };
  }

  it('that ended before the page opened is whole at once', async () => {
    const { follower, stream, settle, transport } = make();
    stream().open();
    stream().send('state', run({ status: 'succeeded', is_terminal: true }));
    stream().send('line', lines(1, 500));
    stream().send('line', lines(501, 700));
    stream().send('end', { status: 'succeeded', last_line: 700 });
    stream().end();
    await settle(20_000);
    expect(follower.state).toBe('ended');
    expect(follower.count).toBe(700);
    expect(follower.run?.status).toBe('succeeded');
    expect(transport.streams).toHaveLength(1);
  });

  it('shows progress while it runs, and none after it', async () => {
    const { follower, stream, settle } = make();
    stream().open();
    stream().send('state', run());
    stream().send('progress', { percent_done: 0.5 });
    expect(follower.progress?.percent_done).toBe(0.5);
    stream().send('state', run({ status: 'failed', is_terminal: true }));
    expect(follower.progress).toBeUndefined();
    stream().send('end', { status: 'failed', last_line: 0 });
    await settle();
    expect(follower.state).toBe('ended');
  });

  it('goes on after the last line when the connection breaks, and repeats none', async () => {
    const { follower, transport, stream, settle, seqs } = make();
    stream().open();
    stream().send('line', lines(1, 3));
    stream().break();
    await settle(500);
    expect(transport.streams).toHaveLength(2);
    expect(stream().path).toBe('/api/runs/x1/stream?after_line=3');
    stream().open();
    // A server that lags tells some again.
    stream().send('line', lines(2, 5));
    stream().end();
    await settle(1000);
    expect(stream().path).toBe('/api/runs/x1/stream?after_line=5');
    stream().send('line', lines(6, 6));
    stream().send('end', { status: 'succeeded', last_line: 6 });
    await settle();
    expect(seqs()).toEqual([1, 2, 3, 4, 5, 6]);
    expect(follower.count).toBe(6);
  });

  it('takes a hole that the machine made as it is', async () => {
    const { stream, settle, seqs } = make();
    stream().open();
    stream().send('line', { lines: [line(1), line(90)] });
    await settle();
    expect(seqs()).toEqual([1, 90]);
  });

  it('stops asking for a run that does not exist', async () => {
    const { follower, transport, stream, settle } = make();
    const body = '{"code":"not_found","message":"There is no such run."}';
    stream().refuse({ status: 404, headers: {}, body });
    await settle(60_000);
    expect(follower.problem?.code).toBe('not_found');
    expect(transport.streams).toHaveLength(1);
  });

  it('leaves nothing behind when its page closes', async () => {
    const { transport, stop, stream, settle } = make();
    stream().open();
    stop();
    await settle(60_000);
    expect(stream().signal.aborted).toBe(true);
    expect(transport.streams).toHaveLength(1);
  });
});
