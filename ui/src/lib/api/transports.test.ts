// The two ways to the manager keep the same promises: open comes first, nothing is lost, a refusal
// is told apart from a broken connection, and an aborted stream ends.
import { afterEach, describe, expect, it, vi } from 'vitest';
import { HttpTransport } from './transport.http';
import { TauriTransport } from './transport.tauri';
import { Refused, type StreamEvent } from './transport';

interface FakeChannel {
  onmessage: (piece: string | null) => void;
}

const bridge = vi.hoisted(() => ({ invoke: vi.fn() }));
vi.mock('@tauri-apps/api/core', () => ({
  invoke: bridge.invoke,
  Channel: class {
    onmessage = () => {};
  },
}));

const names = (events: StreamEvent[]) => events.map((event) => event.event);

afterEach(() => vi.unstubAllGlobals());

describe('through the bridge of the desktop', () => {
  it('a request is one command', async () => {
    bridge.invoke.mockResolvedValueOnce({ status: 200, headers: {}, body: '[]' });
    const answer = await new TauriTransport().request('GET', '/api/hosts');
    expect(answer.body).toBe('[]');
    const request = { method: 'GET', path: '/api/hosts', body: null };
    expect(bridge.invoke).toHaveBeenLastCalledWith('api', { request });
  });

  it('a stream opens first, even when the channel speaks before the command answers', async () => {
    bridge.invoke.mockImplementationOnce(async (_: string, args: { channel: FakeChannel }) => {
      args.channel.onmessage(': begins\n\nevent: change\ndata: 1\n\n');
      setTimeout(() => {
        args.channel.onmessage('event: change\ndata: 2\n\n');
        args.channel.onmessage(null);
      });
      return { id: 7, answer: null };
    });
    const events: StreamEvent[] = [];
    const signal = new AbortController().signal;
    await new TauriTransport().stream('/api/events', (event) => events.push(event), signal);
    expect(names(events)).toEqual(['open', 'change', 'change']);
  });

  it('a refused stream is told as refused', async () => {
    const answer = { status: 404, headers: {}, body: '{}' };
    bridge.invoke.mockResolvedValueOnce({ id: null, answer });
    const signal = new AbortController().signal;
    const stream = new TauriTransport().stream('/api/runs/x/stream', () => {}, signal);
    await expect(stream).rejects.toBeInstanceOf(Refused);
  });

  it('an aborted stream is unsubscribed', async () => {
    const stop = new AbortController();
    bridge.invoke.mockResolvedValueOnce({ id: 9, answer: null }).mockResolvedValue(undefined);
    const stream = new TauriTransport().stream('/api/events', () => stop.abort(), stop.signal);
    await expect(stream).rejects.toBeDefined();
    expect(bridge.invoke).toHaveBeenLastCalledWith('unsubscribe', { id: 9 });
  });
});

describe('over HTTPS', () => {
  it('what a page sends last is under way at once, and outlives the page', () => {
    const fetch = vi.fn(async () => new Response(null, { status: 204 }));
    vi.stubGlobal('fetch', fetch);
    void new HttpTransport().request('POST', '/api/away/seen', '{}', true);
    expect(fetch).toHaveBeenCalledWith(
      '/api/away/seen',
      expect.objectContaining({ keepalive: true }),
    );
  });

  it('a stream opens first and ends with its body', async () => {
    const text = 'event: change\ndata: 1\n\nevent: change\ndata: 2\n\n';
    vi.stubGlobal('fetch', async () => new Response(text));
    const events: StreamEvent[] = [];
    const signal = new AbortController().signal;
    await new HttpTransport().stream('/api/events', (event) => events.push(event), signal);
    expect(names(events)).toEqual(['open', 'change', 'change']);
  });

  it('a refused stream is told as refused', async () => {
    vi.stubGlobal('fetch', async () => new Response('{}', { status: 401 }));
    const signal = new AbortController().signal;
    const stream = new HttpTransport().stream('/api/events', () => {}, signal);
    await expect(stream).rejects.toMatchObject({ answer: { status: 401 } });
  });

  it('a request tells status, headers and body whatever the status', async () => {
    const refused = new Response('{"code":"conflict"}', { status: 409, headers: { 'X-A': 'b' } });
    vi.stubGlobal('fetch', async () => refused);
    const answer = await new HttpTransport().request('POST', '/api/plans', '{}');
    expect(answer).toMatchObject({ status: 409, body: '{"code":"conflict"}' });
    expect(answer.headers['x-a']).toBe('b');
  });
});
