// The transport of a browser: fetch, and server-sent events read from a fetched body.
import { SseParser } from './sse';
import { Refused, type Answer, type StreamEvent, type Transport } from './transport';

/** Without a sign of life for this long a stream counts as broken; the server sends one every 15 s. */
const SILENCE_MS = 45_000;

/** Reaches the manager that served this page. */
export class HttpTransport implements Transport {
  async request(method: string, path: string, body?: string, isLast = false): Promise<Answer> {
    const headers = body === undefined ? undefined : { 'content-type': 'application/json' };
    const response = await fetch(path, {
      method,
      headers,
      body,
      credentials: 'same-origin',
      keepalive: isLast,
    });
    return answerOf(response);
  }

  async stream(
    path: string,
    onEvent: (event: StreamEvent) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const silence = new AbortController();
    const response = await fetch(path, {
      headers: { accept: 'text/event-stream' },
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.any([signal, silence.signal]),
    });
    if (!response.ok || !response.body) throw new Refused(await answerOf(response));
    onEvent({ event: 'open', data: '' });
    const parser = new SseParser(onEvent);
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const timer = setTimeout(() => silence.abort(new Error('silent')), SILENCE_MS);
      const { done, value } = await reader.read().finally(() => clearTimeout(timer));
      if (done) return;
      parser.push(decoder.decode(value, { stream: true }));
    }
  }
}

async function answerOf(response: Response): Promise<Answer> {
  return {
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: await response.text(),
  };
}
