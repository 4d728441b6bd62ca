// Reads server-sent events out of text that arrives in pieces. Our own, because EventSource tells
// neither why it was refused nor when it is open for sure, and reconnects on its own terms.
import type { StreamEvent } from './transport';

/** A parser that is fed pieces and calls back with each whole event. */
export class SseParser {
  #rest = '';
  #event = '';
  #id: string | undefined;
  #data: string[] = [];

  constructor(private readonly onEvent: (event: StreamEvent) => void) {}

  /** Takes the next piece. */
  push(piece: string): void {
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    if (line === '') return this.#dispatch();
    // A comment keeps the connection alive.
    if (line.startsWith(':')) return;
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#event = value;
    else if (field === 'data') this.#data.push(value);
    else if (field === 'id') this.#id = value;
  }

  #dispatch(): void {
    if (this.#data.length > 0) {
      const event = this.#event || 'message';
      this.onEvent({ event, id: this.#id, data: this.#data.join('\n') });
    }
    this.#event = '';
    this.#data = [];
  }
}
