// The transport of the desktop window. What it asks of the shell:
//
//   invoke('api', { request: { method, path, body: string | null } })
//     -> { status, headers: { name: value }, body: string }
//   invoke('subscribe', { path, channel })
//     -> { id, answer: null } once nothing can be missed any more, or
//     -> { id: null, answer: { status, headers, body } } when the server refused
//   channel messages: pieces of text as a server-sent stream has them, and null when it is over
//   invoke('unsubscribe', { id })
import { Channel, invoke } from '@tauri-apps/api/core';
import { deferred } from '../deferred';
import { SseParser } from './sse';
import { Refused, type Answer, type StreamEvent, type Transport } from './transport';

interface Subscribed {
  id: number | null;
  answer: Answer | null;
}

/** Reaches the manager inside this process. */
export class TauriTransport implements Transport {
  request(method: string, path: string, body?: string): Promise<Answer> {
    return invoke<Answer>('api', { request: { method, path, body: body ?? null } });
  }

  async stream(
    path: string,
    onEvent: (event: StreamEvent) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const closed = deferred<undefined>();
    const parser = new SseParser(onEvent);
    // The channel may speak before `subscribe` answers, but `open` comes first.
    const early: (string | null)[] = [];
    let isOpen = false;
    const take = (piece: string | null) => {
      if (signal.aborted) return;
      if (piece === null) closed.resolve(undefined);
      else parser.push(piece);
    };
    const channel = new Channel<string | null>();
    channel.onmessage = (piece) => (isOpen ? take(piece) : early.push(piece));

    const { id, answer } = await invoke<Subscribed>('subscribe', { path, channel });
    if (answer) throw new Refused(answer);
    const stop = () => {
      void invoke('unsubscribe', { id });
      closed.reject(signal.reason);
    };
    if (signal.aborted) {
      stop();
      return closed.promise.then(() => {});
    }
    signal.addEventListener('abort', stop, { once: true });
    onEvent({ event: 'open', data: '' });
    isOpen = true;
    early.forEach(take);
    await closed.promise.finally(() => signal.removeEventListener('abort', stop));
  }
}
