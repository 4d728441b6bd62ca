// The client, its refusals, and the reading of event streams.
import { describe, expect, it } from 'vitest';
import { FakeTransport, refusal } from '../../test/fakes';
import { granted, makeClient } from './client';
import { Problem } from './problem';
import { SseParser } from './sse';
import type { StreamEvent } from './transport';

describe('the client', () => {
  it('sends method, path, query and body through the transport', async () => {
    const transport = new FakeTransport().on('GET', '/api/runs', []);
    const client = makeClient(transport);
    const query = { open: true, limit: 5 };
    await granted(client.GET('/api/runs', { params: { query } }));
    expect(transport.requests[0]?.path).toBe('/api/runs?open=true&limit=5');
    transport.on('POST', '/api/session', { signed_in: true });
    await granted(client.POST('/api/session', { body: { password: 'x' } }));
    expect(transport.sent('POST', '/api/session')).toEqual([{ password: 'x' }]);
  });

  it('throws refusals with code, field and guidance', async () => {
    const transport = new FakeTransport().on('POST', '/api/repositories', () =>
      refusal('invalid_input', 'It is needed.', { field: 'name', guidance: 'Give one.' }),
    );
    const call = makeClient(transport).POST('/api/repositories', { body: { name: '', url: '' } });
    const problem = await granted(call).catch((thrown: unknown) => thrown);
    expect(problem).toBeInstanceOf(Problem);
    expect(problem).toMatchObject({ code: 'invalid_input', field: 'name', guidance: 'Give one.' });
  });

  it('takes an empty answer', async () => {
    const transport = new FakeTransport().on('DELETE', '/api/session', () => ({ status: 204 }));
    await expect(granted(makeClient(transport).DELETE('/api/session'))).resolves.toBeUndefined();
  });

  it('says that nobody answers, in a code of its own', async () => {
    const transport = new FakeTransport();
    transport.request = () => Promise.reject(new TypeError('network'));
    const call = makeClient(transport).GET('/api/system');
    await expect(granted(call)).rejects.toMatchObject({ code: 'unreachable' });
  });

  it('makes something of an answer that is no refusal of ours', () => {
    const problem = Problem.of({ status: 502, headers: { 'retry-after': '7' }, body: '<html>' });
    expect([problem.code, problem.retryAfter]).toEqual(['internal', 7]);
  });
});

describe('an event stream', () => {
  it('is read however it is cut', () => {
    const text =
      ': hello\n\nevent: change\nid: 7\ndata: {"a":\ndata: 1}\n\nevent: end\r\ndata: x\r\n\r\n';
    for (let cut = 1; cut < text.length; cut += 1) {
      const events: StreamEvent[] = [];
      const parser = new SseParser((event) => events.push(event));
      parser.push(text.slice(0, cut));
      parser.push(text.slice(cut));
      expect(events).toEqual([
        { event: 'change', id: '7', data: '{"a":\n1}' },
        { event: 'end', id: '7', data: 'x' },
      ]);
    }
  });
});
