// A live thing subscribes first, reads then, and reads again on events and gaps.
import { EventHub } from '$lib/api/events';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeTransport } from '../../test/fakes';
import { Live } from './live.svelte';

describe('a live thing', () => {
  beforeEach(
    () => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }),
  );
  afterEach(() => void vi.useRealTimers());

  function make() {
    const transport = new FakeTransport();
    const hub = new EventHub(transport);
    let value = 0;
    const read = vi.fn(async () => (value += 1));
    const live = new Live<number>(hub, { read, wants: (it) => it.topic === 'run', gapMs: 300 });
    hub.start();
    const stop = live.start();
    const stream = () => transport.streams.at(-1) as (typeof transport.streams)[number];
    const settle = (ms: number) => vi.advanceTimersByTimeAsync(ms);
    return { transport, hub, read, live, stop, stream, settle };
  }

  it('reads only once the subscription is open', async () => {
    const { read, stream, settle, live } = make();
    await settle(50);
    expect(read).not.toHaveBeenCalled();
    expect(live.isLoading).toBe(true);
    stream().open();
    await settle(50);
    expect(read).toHaveBeenCalledTimes(1);
    expect(live.data).toBe(1);
  });

  it('reads without a subscription that says nothing, and again once it is open', async () => {
    const { read, stream, settle } = make();
    await settle(200);
    expect(read).toHaveBeenCalledTimes(1);
    stream().open();
    await settle(1000);
    expect(read).toHaveBeenCalledTimes(2);
  });

  it('reads again on an event that concerns it, and on no other', async () => {
    const { read, stream, settle } = make();
    stream().open();
    await settle(1000);
    stream().send('change', { topic: 'plan', id: 'p', revision: 7 });
    await settle(1000);
    expect(read).toHaveBeenCalledTimes(1);
    stream().send('change', { topic: 'run', id: 'x', revision: 8 });
    await settle(1000);
    expect(read).toHaveBeenCalledTimes(2);
  });

  it('reads again after a gap in the revisions, whatever the event is about', async () => {
    const { read, stream, settle } = make();
    stream().open();
    await settle(1000);
    stream().send('change', { topic: 'plan', id: 'p', revision: 7 });
    stream().send('change', { topic: 'plan', id: 'p', revision: 9 });
    await settle(1000);
    expect(read).toHaveBeenCalledTimes(2);
  });

  it('reads again when the server says that some were missed', async () => {
    const { read, stream, settle } = make();
    stream().open();
    await settle(1000);
    stream().send('resync', {});
    await settle(1000);
    expect(read).toHaveBeenCalledTimes(2);
  });

  it('reads again after the connection came back', async () => {
    const { read, transport, stream, settle } = make();
    stream().open();
    await settle(1000);
    stream().break();
    await settle(1000);
    expect(transport.streams).toHaveLength(2);
    stream().open();
    await settle(1000);
    expect(read).toHaveBeenCalledTimes(2);
  });

  it('turns a burst of events into few readings, and misses none that comes while it reads', async () => {
    const { read, stream, settle } = make();
    stream().open();
    await settle(1000);
    let finish: (value: number) => void = () => {};
    read.mockImplementationOnce(() => new Promise((resolve) => (finish = resolve)));
    for (let i = 0; i < 100; i += 1) stream().send('change', { topic: 'run', revision: i });
    await settle(100);
    expect(read).toHaveBeenCalledTimes(2);
    stream().send('change', { topic: 'run', revision: 100 });
    finish(50);
    await settle(1000);
    expect(read).toHaveBeenCalledTimes(3);
  });

  it('keeps what it had while a reading fails, and tries again', async () => {
    const { read, live, stream, settle } = make();
    stream().open();
    await settle(1000);
    read.mockRejectedValueOnce(new TypeError('network'));
    stream().send('change', { topic: 'run', revision: 1 });
    await settle(500);
    expect(live.data).toBe(1);
    expect(live.problem?.code).toBe('unreachable');
    await settle(5000);
    expect(live.problem).toBeUndefined();
    expect(live.data).toBe(2);
  });

  it('is quiet after it was stopped', async () => {
    const { read, stream, settle, stop } = make();
    stream().open();
    await settle(1000);
    stop();
    stream().send('change', { topic: 'run', revision: 1 });
    await settle(1000);
    expect(read).toHaveBeenCalledTimes(1);
  });
});
